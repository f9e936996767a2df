"""``run.pause``: nothing new of a run starts until it is resumed; what runs finishes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import RunNotFound, as_text
from workflow_engine.kernel import points
from workflow_engine.kernel.events import RunPaused
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WorkflowRun

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseRunResult:
    # False: it was paused already, or has ended.
    changed: bool
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseRun(Command[PauseRunResult]):
    """Pause an open run. Its deadline, if it has one, comes all the same. Raises ``RunNotFound``."""

    type = "run.pause"
    run_id: uuid.UUID
    reason: str = ""
    actor: str = ""


@handles(PauseRun)
def pause_run(command: PauseRun, ports: Ports, causation_id: uuid.UUID) -> PauseRunResult:
    result = transact(ports, causation_id, lambda work: pause_in(work, command))
    if result is None:
        raise RunNotFound(command.run_id)
    return result


def pause_in(work: UnitOfWork, command: PauseRun) -> PauseRunResult | None:
    """Do it in the transaction of ``work``; None: there is no such run."""
    using = work.ports.using
    run = work.lock_run(command.run_id)
    if run is None:
        return None
    if not WorkflowRun.objects.using(using).pause(run, work.now):
        # After a COMMIT whose answer was lost, the pause that stands may be this very one.
        mine = work.repeated and run.events.using(using).filter(causation_id=work.causation_id).exists()
        return PauseRunResult(changed=mine, status=run.status)
    reason, actor = scrub(as_text(command.reason))[:2000], scrub(command.actor)[:150]
    work.emit(run, RunPaused(workflow_id=run.workflow, reason=reason or None, actor=actor or None))
    points.hit(points.PAUSE_IN_TX)
    return PauseRunResult(changed=True, status=run.status)
