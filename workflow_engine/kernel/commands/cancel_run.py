"""``run.cancel``: a run ends now, with every open stage; running bodies are told and their results dropped."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import RunNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.ending import cancel_run as cancel_run_now
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.statuses import OPEN_RUN, RunStatus

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
    result = transact(ports, causation_id, lambda work: cancel_in(work, command, causation_id))
    if result is None:
        raise RunNotFound(command.run_id)
    return result


def cancel_in(work: UnitOfWork, command: CancelRun, causation_id: uuid.UUID) -> CancelRunResult | None:
    """Do it in the transaction of ``work``; None: there is no such run."""
    using = work.ports.using
    run = work.lock_run(command.run_id)
    if run is None:
        return None
    if run.status not in OPEN_RUN:
        # After a COMMIT whose answer was lost, the cancellation that stands may be this very one.
        mine = work.repeated and run.events.using(using).filter(causation_id=causation_id).exists()
        return CancelRunResult(cancelled=mine, status=run.status)
    cancel_run_now(work, run, reason=command.reason, actor=command.actor)
    points.hit(points.CANCEL_IN_TX)
    return CancelRunResult(cancelled=True, status=RunStatus.CANCELLED)
