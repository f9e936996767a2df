"""Questions to the database while the soak goes on; a server that is away is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from django.db import Error, connections

from tests.soak.load import Created
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN

T = TypeVar("T")


def asked(question: Callable[[], T], seconds: float = 60) -> T:
    end = time.monotonic() + seconds
    while True:
        try:
            return question()
        except Error:
            connections.close_all()
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def unfinished(created: Sequence[Created] | None = None) -> int:
    """Count the runs that have not ended, of these or of all."""
    runs = WorkflowRun.objects.exclude(status__in=FINISHED_RUN)
    if created is not None:
        runs = runs.filter(pk__in=[item.run_id for item in created])
    return asked(runs.count)


def wait(condition: Callable[[], object], seconds: float, pause: float = 0.05) -> float | None:
    """Wait for a condition; return after how many seconds it held, None if it did not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(pause)
    return time.monotonic() - began


def first_end_after(moment: float) -> float | None:
    """Return when the first attempt ended that also began after ``moment`` (a time of the clock)."""
    since = datetime.fromtimestamp(moment, UTC)
    rows = StageAttempt.objects.filter(started_at__gt=since, outcome="completed").order_by("finished_at")
    found = asked(lambda: rows.values_list("finished_at", flat=True).first())
    return found.timestamp() if found else None


def latencies(created: Sequence[Created]) -> list[float]:
    """Return how long these runs took from being created to their end, in seconds; those that have ended."""
    rows = WorkflowRun.objects.filter(pk__in=[item.run_id for item in created], finished_at__isnull=False)
    return sorted((end - begin).total_seconds() for begin, end in rows.values_list("created_at", "finished_at"))


def states() -> str:
    """Return in a few words what is open, for whoever waits for it."""
    counts: dict[str, int] = {}
    for status in asked(lambda: list(StageRun.objects.exclude(status="COMPLETED").values_list("status", flat=True))):
        counts[status] = counts.get(status, 0) + 1
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items())) or "nothing"
