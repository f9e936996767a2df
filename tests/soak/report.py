"""What the soak has found: progress lines, figures, violations."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Report:
    """``lenient``: times are shown and not judged."""

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.figures: dict[str, str] = {}
        self.violations: list[str] = []
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        write(f"{time.monotonic() - self._began:7.1f} s  {text}")

    def figure(self, name: str, value: str) -> None:
        self.figures[name] = value
        self.say(f"{name}: {value}")

    def violation(self, text: str) -> None:
        self.violations.append(text)
        self.say(f"VIOLATION: {text}")

    def check(self, holds: bool, text: str) -> None:
        if not holds:
            self.violation(text)

    def goal(self, holds: bool, text: str) -> None:
        """Like ``check``, for what only takes longer while workers are being killed."""
        self.check(holds or self.lenient, text)

    def conclude(self, path: str = "") -> int:
        """Print everything once more, and write it as JSON to ``path``; return the exit code."""
        if path:
            found = {"figures": self.figures, "violations": self.violations}
            Path(path).write_text(json.dumps(found, indent=2) + "\n")
        width = max(map(len, self.figures), default=0)
        write("\nFigures")
        for name, value in self.figures.items():
            write(f"  {name:<{width}}  {value}")
        write(f"\n{len(self.violations)} violations")
        for text in self.violations:
            write(f"  {text}")
        return 1 if self.violations else 0


def spread(values: Sequence[float]) -> str:
    """Return median, 95th percentile and the most, in seconds."""
    if not values:
        return "none"
    ordered = sorted(values)
    middle, high = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95))
    return f"median {middle:.2f} s, 95 % {high:.2f} s, most {ordered[-1]:.2f} s (of {len(ordered)})"
