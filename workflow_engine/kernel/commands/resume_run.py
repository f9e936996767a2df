"""``run.resume``: a paused run goes on."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from workflow_engine.errors import RunNotFound, as_text
from workflow_engine.kernel import points
from workflow_engine.kernel.events import RunResumed
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import plan_group
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import OPEN_RUN, RunStatus, StageStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeRunResult:
    # False: it was not paused, or has ended.
    changed: bool
    status: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeRun(Command[ResumeRunResult]):
    """Let a paused run go on, at once. Raises ``RunNotFound``."""

    type = "run.resume"
    run_id: uuid.UUID
    reason: str = ""
    actor: str = ""


@handles(ResumeRun)
def resume_run(command: ResumeRun, ports: Ports, causation_id: uuid.UUID) -> ResumeRunResult:
    result = transact(ports, causation_id, lambda work: resume_in(work, command))
    if result is None:
        raise RunNotFound(command.run_id)
    return result


def resume_in(work: UnitOfWork, command: ResumeRun) -> ResumeRunResult | None:
    """Do it in the transaction of ``work``; None: there is no such run."""
    using = work.ports.using
    run = work.lock_run(command.run_id)
    if run is None:
        return None
    if run.status not in OPEN_RUN or not WorkflowRun.objects.using(using).resume(run):
        # After a COMMIT whose answer was lost, it may be this very command that has resumed it.
        mine = work.repeated and run.events.using(using).filter(causation_id=work.causation_id).exists()
        return ResumeRunResult(changed=mine, status=run.status)
    reason, actor = scrub(as_text(command.reason))[:2000], scrub(command.actor)[:150]
    work.emit(run, RunResumed(workflow_id=run.workflow, reason=reason or None, actor=actor or None))
    if work.ports.is_limited(run.workflow):
        # While it was paused it got no place.
        work.want_place(run.pk, due_at=work.now)
    for queue in _waiting_queues(work, run):
        work.ring_queue(queue)
    points.hit(points.PAUSE_IN_TX)
    return ResumeRunResult(changed=True, status=run.status)


def _waiting_queues(work: UnitOfWork, run: WorkflowRun) -> Iterable[str]:
    """Return the queues in which the run has something to start, now or later: its workers did not look for it."""
    if run.status == RunStatus.PENDING:
        return {item["queue"] for item in plan_group(run, 1)}
    stages = StageRun.objects.using(work.ports.using).current().filter(run=run, status=StageStatus.PENDING)
    return stages.order_by().values_list("queue", flat=True).distinct()
