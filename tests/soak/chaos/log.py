"""The workers' log, read on from where it was left: what was said how often, and tracebacks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LINE = re.compile(r"\S+ \S+ (\d+) (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+) (.*)")
# What is wrong with a server is said once by each worker, and once more by each loop and thread that meets it.
MOST_SAID = 15
OFTEN = (
    "stage taken from a lost worker",
    "webhook",
    "result ",
    "redis does not answer",
    "check taken",
    "event not delivered",
)
MOST_TRACEBACKS = 10


@dataclass
class Log:
    """``complaints``: warnings and errors, without their facts. ``refused``: runs whose late results were refused."""

    path: Path
    complaints: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    tracebacks: list[str] = field(default_factory=list)
    _offset: int = 0
    _by_one: Counter[tuple[str, str]] = field(default_factory=Counter)

    def read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open(errors="replace") as file:
            file.seek(self._offset)
            traceback: list[str] | None = None
            before = ""
            while line := file.readline():
                if line.startswith("Traceback (most recent call last)"):
                    traceback = [before.strip()]
                elif traceback is not None and not line.startswith(" "):
                    traceback.append(line.strip())
                    if len(self.tracebacks) < MOST_TRACEBACKS:
                        self.tracebacks.append(" | ".join([traceback[0], *traceback[-3:]]))
                    traceback = None
                elif traceback is not None:
                    traceback.append(line.strip())
                if match := LINE.match(line):
                    self._note(match[1], match[2], match[4])
                    before = line
            self._offset = file.tell()

    def _note(self, pid: str, level: str, message: str) -> None:
        words = re.split(r" \w+=", message)[0][:80]
        run = re.search(r"run=(\S+)", message)
        if words == "transaction repeated":
            self.repeated += 1
        elif words in ("result refused", "result dropped") and run:
            (self.refused if words == "result refused" else self.dropped)[run[1]] += 1
        if level in ("WARNING", "ERROR", "CRITICAL"):
            self.complaints[f"{level} {words}"] += 1
            self._by_one[pid, words] += 1

    def wrong(self, faults: int = 0) -> list[str]:
        """Return what nobody should have said, or not so often after so many faults of servers."""
        often = [
            f"process {pid} said {count} times: {words}"
            for (pid, words), count in self._by_one.items()
            if count > MOST_SAID * (1 + faults) and not words.startswith(OFTEN)
        ]
        return [*(f"a traceback in the workers' log: {text}" for text in self.tracebacks), *often]

    def forget(self) -> None:
        """Count anew from here."""
        self.refused.clear()
        self.dropped.clear()
        self.repeated = 0
        self.tracebacks.clear()
        self._by_one.clear()
