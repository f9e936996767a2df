"""``work.resume``: a paused workflow or queue goes on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction

from workflow_engine.errors import WorkflowNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.waiting import waiting_queues
from workflow_engine.models import Pause
from workflow_engine.statuses import PauseScope

from .base import Command, handles
from .pause_work import check_target


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeWorkResult:
    # False: it was not paused.
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeWork(Command[ResumeWorkResult]):
    """Let a paused workflow or queue go on: at once in this process, within a second in others.

    Args:
        scope: ``workflow`` or ``queue``.
        name: the workflow's id, or the queue's name.

    Raises:
        WorkflowNotFound: no such workflow is registered here, and none is paused.
        InvalidInput: the scope or the name is wrong.
    """

    type = "work.resume"
    scope: str
    name: str
    reason: str = ""
    actor: str = ""


@handles(ResumeWork)
def resume_work(command: ResumeWork, ports: Ports, causation_id: uuid.UUID) -> ResumeWorkResult:
    check_target(command.scope, command.name)
    changed = transact(ports, causation_id, lambda work: resume_work_in(work, command))
    # One that is paused may have left the code since.
    if not changed and command.scope == PauseScope.WORKFLOW and command.name not in ports.known_workflows():
        raise WorkflowNotFound(command.name, ports.known_workflows())
    return ResumeWorkResult(changed=changed)


def resume_work_in(work: UnitOfWork, command: ResumeWork) -> bool:
    """Do it in the transaction of ``work``; False: it is not paused."""
    using = work.ports.using
    deleted, _ = Pause.objects.using(using).filter(scope=command.scope, name=command.name).delete()
    if not deleted:
        return False
    # Before the bells, so that whoever they wake in this process knows.
    transaction.on_commit(work.ports.pause_cache.forget, using=using, robust=True)
    if command.scope == PauseScope.QUEUE:
        queues = [command.name]
    else:
        queues = waiting_queues(work.ports, workflows=[command.name])
    for queue in queues:
        work.ring_queue(queue)
    points.hit(points.PAUSE_IN_TX)
    return True
