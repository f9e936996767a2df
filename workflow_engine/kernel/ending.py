"""Ends that come before a run's stages have ended: it is cancelled, a group fails fast, its time is over."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from workflow_engine.errors import as_text
from workflow_engine.models import NOT_AN_ITEM, RunData, StageMap, StageRun, WorkflowRun
from workflow_engine.models.maps import is_mapped
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import OPEN_RUN, OPEN_STAGE, AttemptOutcome, RunStatus, StageStatus

from .children import cancel_children
from .events import RunCancelled, RunFailed, StageCancelled
from .lapses import lapse_of, record
from .payloads import scrub
from .started import stage_event
from .unit_of_work import UnitOfWork


def cancel_open_stages(work: UnitOfWork, run: WorkflowRun) -> int:
    """Cancel every open stage of a run whose lock is held and return how many there were.

    Their tokens are void from here on: bodies that run are told when their worker next asks, and whatever comes of
    them is dropped. The runs that they have started are told too.
    """
    stages = StageRun.objects.using(work.ports.using)
    rows = stages.filter(run=run, status__in=OPEN_STAGE)
    _tell(work, run, rows)
    count = stages.cancel_open(run, work.now)
    if is_mapped(run.plan):
        counts = StageMap.objects.using(work.ports.using).filter(run=run, generation=run.generation)
        left = F("total") - F("done") - F("failed")
        counts.update(cancelled=left, opened=F("total"), next_index=F("total"))
    return count


def cancel_items(work: UnitOfWork, run: WorkflowRun, stage_id: str, generation: int) -> int:
    """Cancel the items of a map that do not run just now; return how many there were."""
    rows = StageRun.objects.using(work.ports.using).filter(
        run=run, stage=stage_id, generation=generation, map_index__gt=NOT_AN_ITEM
    )
    rows = rows.filter(status__in=(StageStatus.PENDING, StageStatus.SUSPENDED))
    _tell(work, run, rows)
    return rows.cancel(work.now)


def _tell(work: UnitOfWork, run: WorkflowRun, rows: StageRunQuerySet) -> None:
    """Write down that ``rows`` end; of a map's items that never began the end of the stage itself says enough."""
    told = rows.exclude(map_index__gt=NOT_AN_ITEM, attempt=0).in_order().defer("config", "metrics", "progress", "item")
    begun = list(told)
    record(work, [lapse_of(work, row, AttemptOutcome.CANCELLED) for row in begun if row.status == StageStatus.RUNNING])
    for row in begun:
        work.emit(run, StageCancelled(**stage_event(row)))
    cancel_children(work, run, begun, rows)


def cancel_run(work: UnitOfWork, run: WorkflowRun, *, reason: str = "", actor: str = "") -> None:
    """End a locked run that is open as CANCELLED, with every open stage of it."""
    cancel_open_stages(work, run)
    reason, actor = scrub(as_text(reason))[:2000], scrub(actor)[:150]
    if reason:
        RunData.objects.using(work.ports.using).filter(pk=run.pk).update(cancel_reason=reason)
    work.change_run(run, RunStatus.CANCELLED, leaving=OPEN_RUN, finished_at=work.now)
    work.emit(run, RunCancelled(workflow_id=run.workflow, reason=reason or None, actor=actor or None))


def fail_run(
    work: UnitOfWork, run: WorkflowRun, error: dict[str, Any], *, leaving: RunStatus = RunStatus.RUNNING
) -> None:
    """End a locked run as FAILED: the one way to do so. ``error``: ``{"code", "class", "message", "stage"}``."""
    work.change_run(run, RunStatus.FAILED, leaving=(leaving,), finished_at=work.now, error=error)
    work.emit(run, RunFailed(workflow_id=run.workflow, error=error))
