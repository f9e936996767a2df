"""What has changed between two looks at a run, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from workflow_engine.graphs.durations import spell
from workflow_engine.graphs.words import one_line
from workflow_engine.statuses import StageStatus

from .looking import NOT_YET, StageLine
from .printing import clock, error_line

# Of a map whose items end, each further share of so many percent is told, and the first item that fails.
MAP_STEP = 5.0
_UNCHANGED_BY = {StageStatus.PENDING, NOT_YET}


def changed(before: Sequence[StageLine], now: Sequence[StageLine]) -> Iterator[tuple[StageLine | None, StageLine]]:
    """Yield (as it was, as it is) of each stage in which something is to be told."""
    for position, line in enumerate(now):
        old = before[position] if position < len(before) else None
        if (old is not None and _told(line) == _told(old)) or (
            line.status in _UNCHANGED_BY and line.error is None and not _was_taken(old)
        ):
            continue
        yield old, line


def _told(line: StageLine) -> StageLine:
    """Return what is told of a stage: of a map not every item."""
    if not line.runs_items or line.items is None or line.suspension is None or line.percent is None:
        return line
    return replace(
        line,
        percent=line.percent // MAP_STEP,
        message="",
        items={"failed": bool(line.items["failed"])},
        suspension=replace(line.suspension, words=""),
    )


def _was_taken(old: StageLine | None) -> bool:
    return old is not None and old.status not in _UNCHANGED_BY


def in_words(old: StageLine | None, line: StageLine) -> str:
    """Return what has happened to the stage: ``started, attempt 2``, ``completed in 1.5 s``."""
    if line.status == StageStatus.RUNNING:
        return _running(old, line)
    if line.status == StageStatus.PENDING:
        if old is not None and old.suspension is not None and not line.retry_at:
            return "goes on"
        return f"attempt {line.attempt} failed, {retry_in_words(line)}" if line.retry_at else "waits to be taken again"
    words = line.status.lower()
    if line.runs_items:
        return " ".join(filter(None, (line.remark, line.question)))
    if line.remark and line.status not in (StageStatus.COMPLETED, StageStatus.FAILED):
        return f"{words}: {line.remark}"
    if line.status == StageStatus.COMPLETED and line.duration is not None:
        words += f" in {spell(line.duration)}" + (f", attempt {line.attempt}" if line.attempt > 1 else "")
        words += f": {line.remark}" if line.remark else ""
    return f"{words}: {error_line(line.error)}" if line.error else words


def _running(old: StageLine | None, line: StageLine) -> str:
    words = []
    if old is None or not old.is_running or old.attempt != line.attempt:
        words.append("started" if line.attempt <= 1 else f"started, attempt {line.attempt}")
    if line.percent is not None:
        words.append(f"{line.percent:.0f}%")
        words.append(one_line(line.message))
    return "  ".join(filter(None, words)) or "running"


def retry_in_words(line: StageLine) -> str:
    """Return when a failed stage is tried again, and why."""
    when = f"retries at {clock(line.retry_at)}" if line.retry_at else "retries"
    return f"{when}: {error_line(line.error)}"
