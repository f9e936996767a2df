"""Healthy workers go on where one has died. What only time would do is done at once: a death costs a test no wait."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from tests.faults.processes import SETTINGS, stop, worker_process
from tests.waiting import until
from workflow_engine.models import BulkTarget, EventCursor, StageRun, WorkerHeartbeat, WorkflowRun

LONG = timedelta(hours=1)


def killed(
    crash_at: str,
    *options: str,
    settings_module: str = SETTINGS,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Let a worker process work until it dies by SIGKILL at ``point:n``; then its leases and claims are over."""
    connection.close()
    with worker_process(crash_at, *options, settings_module=settings_module) as doomed:
        until(lambda: meanwhile() or doomed.poll() is not None, f"the process passes {crash_at} and dies")
        assert doomed.poll() == -signal.SIGKILL, doomed.output()
    end_leases()


def end_leases() -> None:
    """Let it be later, for whatever waits until a lease or a claim is over."""
    past = timezone.now() - LONG
    WorkerHeartbeat.objects.filter(stopped_at=None).update(lease_until=past)
    # What they held they took before.
    StageRun.objects.filter(status="RUNNING").update(started_at=past - LONG)
    EventCursor.objects.filter(token__gt=0).update(due_at=past)
    BulkTarget.objects.filter(taken_until__isnull=False).update(taken_until=past)


def take_over(ended: Callable[[], object], *options: str, workers: int = 1, settings_module: str = SETTINGS) -> None:
    """Let healthy workers work until ``ended`` holds, and stop."""
    with ExitStack() as stack:
        healthy = [
            stack.enter_context(worker_process("", *options, settings_module=settings_module)) for _ in range(workers)
        ]
        until(lambda: shorten_waits() or ended(), "healthy workers go on to the end")
        for worker in healthy:
            stop(worker)


def shorten_waits() -> None:
    """Let a stage that was taken from the dead be tried again now."""
    now = timezone.now()
    waiting = StageRun.objects.filter(status="PENDING", suspect=True, due_at__range=(now, now + LONG))
    if waiting.exists():
        waiting.update(due_at=now, rank_at=now)


def all_ended() -> bool:
    return not WorkflowRun.objects.open().exists()
