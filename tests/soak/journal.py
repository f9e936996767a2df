"""Which bodies were entered and left, in files: they survive a killed worker and need no server under test."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from workflow_engine import StageContext


@dataclass(frozen=True)
class Entry:
    """One body entered or left. ``attempt`` grows by one with each token of a stage run."""

    kind: str
    at: float
    pid: int
    run_id: str
    stage: str
    # -1: it is not one of a map's items.
    item: int
    attempt: int
    generation: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.run_id, self.stage, self.item, self.attempt

    @property
    def row(self) -> tuple[str, str, int, int]:
        """Name its stage run."""
        return self.run_id, self.stage, self.item, self.generation


def directory() -> Path:
    return Path(settings.SCRATCH) / "journal"


@contextmanager
def recorded(ctx: StageContext[Any, Any]) -> Iterator[None]:
    """Record that a body was entered, and that it was left (``out`` if it returned, ``err`` if it raised)."""
    _write("in", ctx)
    try:
        yield
    except BaseException:
        _write("err", ctx)
        raise
    _write("out", ctx)


def _write(kind: str, ctx: StageContext[Any, Any]) -> None:
    item = -1 if ctx.item_index is None else ctx.item_index
    line = (
        json.dumps([kind, time.time(), os.getpid(), str(ctx.run_id), ctx.stage_id, item, ctx.attempt, ctx.generation])
        + "\n"
    )
    # One write of a short line to a file opened for appending is whole or absent, whenever the process dies.
    with (directory() / f"{os.getpid()}.jsonl").open("ab", buffering=0) as file:
        file.write(line.encode())


def entries() -> list[Entry]:
    """Return everything recorded so far, in the order of time."""
    lines = (line for path in directory().glob("*.jsonl") for line in path.read_text().splitlines(keepends=True))
    # A process that was killed in the middle of a line has left half of one.
    found = [Entry(*json.loads(line)) for line in lines if line.endswith("\n")]
    return sorted(found, key=lambda entry: entry.at)


def entered_by(pid: int) -> int:
    """Return how many bodies a process has entered so far."""
    path = directory() / f"{pid}.jsonl"
    return path.read_text().count('["in"') if path.exists() else 0


def is_in_body(pid: int) -> bool:
    """Whether the last thing that a process has written down is that it entered a body."""
    path = directory() / f"{pid}.jsonl"
    if not path.exists():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 300))
        lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'["in"')
