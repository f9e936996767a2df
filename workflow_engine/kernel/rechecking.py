"""A look at what should end by itself: a stage whose items or child run have ended while nobody heard of it."""

from __future__ import annotations

import logging
from typing import Literal

from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN, RunStatus, WaitKind

from . import points
from .children import child_of
from .maps import recount
from .suspending import LOOK_AGAIN
from .unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)


def recheck(work: UnitOfWork, candidate: StageRun) -> Literal["resumed", "kept"]:
    """Let a stage go on that waits for nothing any more; else look again in a minute."""
    run = work.lock_run(candidate.run_id, skip_locked=True)
    rows = StageRun.objects.using(work.ports.using)
    row = rows.rechecked(work.now).filter(pk=candidate.pk, token=candidate.token).first()
    if run is None or row is None or run.status != RunStatus.RUNNING:
        return "kept"
    goes_on = _child_has_ended(work, row) if row.wait_kind == WaitKind.CHILD else _items_went_on(work, run, row)
    points.hit(points.WAKE_IN_TX)
    if not goes_on:
        rows.filter(pk=row.pk).look_later(work.now + LOOK_AGAIN)
        return "kept"
    logger.warning("stage had waited unheard run=%s stage=%s for=%s", run.pk, row.stage, row.wait_kind)
    return "resumed"


def _child_has_ended(work: UnitOfWork, row: StageRun) -> bool:
    child = child_of(work, row)
    if child is not None and child[1] not in FINISHED_RUN:
        return False
    if not row.resume(at=work.now):
        return False
    work.ring(row)
    return True


def _items_went_on(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> bool:
    return recount(work, run, row)
