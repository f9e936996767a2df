"""Ends that come before a run's stages have ended: it is cancelled, a group fails fast, its time is over."""

from __future__ import annotations

from typing import Any

from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import OPEN_STAGE, AttemptOutcome, RunStatus, StageStatus

from .events import RunFailed, StageCancelled
from .lapses import lapse_of, record
from .started import stage_event
from .unit_of_work import UnitOfWork


def cancel_open_stages(work: UnitOfWork, run: WorkflowRun) -> int:
    """Cancel every open stage of a run whose lock is held and return how many there were.

    Their tokens are void from here on: bodies that run are told when their worker next asks, and whatever comes of
    them is dropped.
    """
    stages = StageRun.objects.using(work.ports.using)
    rows = list(stages.filter(run=run, status__in=OPEN_STAGE).in_order().defer("config", "metrics", "progress"))
    stages.cancel_open(run, work.now)
    record(work, [lapse_of(work, row, AttemptOutcome.CANCELLED) for row in rows if row.status == StageStatus.RUNNING])
    for row in rows:
        work.emit(run, StageCancelled(**stage_event(row)))
    return len(rows)


def fail_run(
    work: UnitOfWork, run: WorkflowRun, error: dict[str, Any], *, leaving: RunStatus = RunStatus.RUNNING
) -> None:
    """End a locked run as FAILED: the one way to do so. ``error``: ``{"code", "class", "message", "stage"}``."""
    work.change_run(run, RunStatus.FAILED, leaving=(leaving,), finished_at=work.now, error=error)
    work.emit(run, RunFailed(workflow_id=run.workflow, error=error))
