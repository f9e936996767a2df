"""``run.cancel``: a run ends now, with every open stage; running bodies are told and their results dropped."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import RunNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_event
from workflow_engine.kernel.events import RunCancelled, StageCancelled
from workflow_engine.kernel.lapses import lapse_of, record
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import RunData, StageRun
from workflow_engine.statuses import OPEN_RUN, OPEN_STAGE, AttemptOutcome, RunStatus, StageStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRunResult:
    # False: the run had already ended, and is as it was.
    cancelled: bool
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRun(Command[CancelRunResult]):
    """Cancel a run. Raises ``RunNotFound``."""

    type = "run.cancel"
    run_id: uuid.UUID
    reason: str = ""
    actor: str = ""


@handles(CancelRun)
def cancel_run(command: CancelRun, ports: Ports, causation_id: uuid.UUID) -> CancelRunResult:
    result = transact(ports, causation_id, lambda work: _cancel(work, command, causation_id))
    if result is None:
        raise RunNotFound(command.run_id)
    return result


def _cancel(work: UnitOfWork, command: CancelRun, causation_id: uuid.UUID) -> CancelRunResult | None:
    using = work.ports.using
    run = work.lock_run(command.run_id)
    if run is None:
        return None
    if run.status not in OPEN_RUN:
        # After a COMMIT whose answer was lost, the cancellation that stands may be this very one.
        mine = work.repeated and run.events.using(using).filter(causation_id=causation_id).exists()
        return CancelRunResult(cancelled=mine, status=run.status)
    rows = list(StageRun.objects.using(using).filter(run=run, status__in=OPEN_STAGE).in_order())
    StageRun.objects.using(using).cancel_open(run, work.now)
    record(work, [lapse_of(work, row, AttemptOutcome.CANCELLED) for row in rows if row.status == StageStatus.RUNNING])
    for row in rows:
        work.emit(run, StageCancelled(**stage_event(row)))
    reason, actor = scrub(command.reason)[:2000], scrub(command.actor)[:150]
    if reason:
        RunData.objects.using(using).filter(pk=run.pk).update(cancel_reason=reason)
    work.change_run(run, RunStatus.CANCELLED, leaving=OPEN_RUN, finished_at=work.now)
    work.emit(run, RunCancelled(workflow_id=run.workflow, reason=reason or None, actor=actor or None))
    points.hit(points.CANCEL_IN_TX)
    return CancelRunResult(cancelled=True, status=RunStatus.CANCELLED)
