"""The client's book: what it wanted and what it was told, in a file, so that its own death loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "client.jsonl"


@dataclass
class Entry:
    """All that is known of one run that was wanted. ``tries`` counts requests, not answers."""

    number: int
    workflow: str
    tries: int = 0
    run_id: str = ""
    made_at: float = 0.0
    # How long the request took that made it or found it made.
    seconds: float = 0.0
    # Answered by a run that an earlier request had made, whose answer was lost; and how often another id was told.
    replays: int = 0
    other_ids: int = 0
    cancel_tries: int = 0
    # None: not asked for, or not answered.
    cancelled: bool | None = None
    rerun_tries: int = 0
    rerun_refusals: int = 0
    rerun: bool = False

    @property
    def text(self) -> str:
        return f"input-{self.number}"

    @property
    def key(self) -> str:
        return f"key-{self.number}"


@dataclass
class Book:
    """``write`` appends and takes note; whoever opens the file later knows the same."""

    path: Path
    entries: dict[int, Entry] = field(default_factory=dict)
    errors: int = 0
    last: int = 0
    # Of the client that wrote here last.
    pid: int = 0

    @classmethod
    def open(cls, path: Path) -> Book:
        book = cls(path)
        for line in _whole_lines(path):
            book._note(json.loads(line))
        return book

    def write(self, kind: str, number: int, **facts: Any) -> None:
        line = {"kind": kind, "number": number, "at": time.time(), **facts}
        with self.path.open("ab", buffering=0) as file:
            file.write((json.dumps(line) + "\n").encode())
        self._note(line)

    def forget(self) -> None:
        """Begin an empty book; the numbers go on."""
        self.path.unlink(missing_ok=True)
        self.entries.clear()

    def _note(self, line: dict[str, Any]) -> None:
        number, kind = line["number"], line["kind"]
        self.last = max(self.last, number)
        if kind == "begin":
            self.pid = line["pid"]
            return
        if kind == "error":
            self.errors += 1
            return
        if kind == "try":
            self.entries.setdefault(number, Entry(number, line["workflow"])).tries += 1
            return
        entry = self.entries[number]
        if kind == "made":
            entry.other_ids += entry.run_id not in ("", line["run_id"])
            entry.replays += not line["created"]
            entry.run_id, entry.made_at, entry.seconds = line["run_id"], line["at"], line["seconds"]
        elif kind == "cancel":
            entry.cancel_tries += 1
        elif kind == "cancelled":
            entry.cancelled = line["cancelled"]
        elif kind == "rerun":
            entry.rerun_tries += 1
        elif kind == "refused":
            entry.rerun_refusals += 1
        elif kind == "rerun-done":
            entry.rerun = True


def _whole_lines(path: Path) -> Iterator[str]:
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield line
