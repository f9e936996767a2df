"""``work.pause``: nothing new of a workflow, or in a queue, starts until it is resumed; what runs finishes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from workflow_engine.errors import FieldError, InvalidInput, WorkflowNotFound, as_text, shown
from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Pause
from workflow_engine.models.base import read_clock
from workflow_engine.statuses import PauseScope

from .base import Command, handles

MAX_NAME = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseWorkResult:
    # False: it was paused already.
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseWork(Command[PauseWorkResult]):
    """Pause a workflow or a queue: at once in this process, within a second in others.

    Args:
        scope: ``workflow`` or ``queue``.
        name: the workflow's id, or the queue's name (any).

    Raises:
        WorkflowNotFound: no such workflow is registered here.
        InvalidInput: the scope or the name is wrong.
    """

    type = "work.pause"
    scope: str
    name: str
    reason: str = ""
    actor: str = ""


@handles(PauseWork)
def pause_work(command: PauseWork, ports: Ports, causation_id: uuid.UUID) -> PauseWorkResult:
    check_target(command.scope, command.name)
    if command.scope == PauseScope.WORKFLOW and command.name not in ports.known_workflows():
        raise WorkflowNotFound(command.name, ports.known_workflows())
    return PauseWorkResult(changed=transact(ports, causation_id, lambda work: pause_work_in(work, command)))


def check_target(scope: str, name: str) -> None:
    """Raises ``InvalidInput`` for what can be no workflow and no queue."""
    if scope not in PauseScope.values:
        problem = FieldError("scope", f"must be 'workflow' or 'queue', got {shown(scope)}"[:300])
        raise InvalidInput("a pause", [problem])
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or scrub(name) != name:
        problem = FieldError("name", f"must be text of 1 to {MAX_NAME} characters, got {shown(name)}"[:300])
        raise InvalidInput("a pause", [problem])


def pause_work_in(work: UnitOfWork, command: PauseWork) -> bool:
    """Do it in the transaction of ``work``; False: it was paused already."""
    # No run changes, so none is locked: the table's constraint decides between two that pause at the same time.
    using, now = work.ports.using, work.ports.clock.db_now()
    pauses = Pause.objects.using(using)
    if pauses.filter(scope=command.scope, name=command.name).exists():
        return False
    try:
        with transaction.atomic(using=using):
            pauses.create(
                scope=command.scope,
                name=command.name,
                reason=scrub(as_text(command.reason))[:2000],
                actor=scrub(command.actor)[:150],
                paused_at=read_clock(using) if hasattr(now, "resolve_expression") else now,
            )
    except IntegrityError:
        return False
    transaction.on_commit(work.ports.pause_cache.forget, using=using, robust=True)
    points.hit(points.PAUSE_IN_TX)
    return True
