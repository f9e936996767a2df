"""``run.transition``: the advance alone, for janitors and repair."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db.models import Max

from workflow_engine.errors import RunNotFound
from workflow_engine.kernel.advance import Action, open_group, settle
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import RunStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class TransitionRunResult:
    action: Action


@dataclass(frozen=True, kw_only=True, slots=True)
class TransitionRun(Command[TransitionRunResult]):
    """Advance a RUNNING run whose current group has settled; anything else is ``noop``. Any number may call it.

    Raises:
        RunNotFound: there is no such run.
    """

    type = "run.transition"
    run_id: uuid.UUID


@handles(TransitionRun)
def transition_run(command: TransitionRun, ports: Ports, causation_id: uuid.UUID) -> TransitionRunResult:
    action = transact(ports, causation_id, lambda work: _transition(work, command.run_id))
    if action is None:
        raise RunNotFound(command.run_id)
    return TransitionRunResult(action=action)


def _transition(work: UnitOfWork, run_id: uuid.UUID) -> Action | None:
    run = work.lock_run(run_id)
    return None if run is None else advance(work, run)


def advance(work: UnitOfWork, run: WorkflowRun) -> Action:
    """Do what follows for a run whose lock is held, whatever stage it stands at."""
    if run.status != RunStatus.RUNNING:
        return "noop"
    rows = StageRun.objects.using(work.ports.using).current().filter(run=run)
    group = rows.aggregate(last=Max("group_number"))["last"]
    if group is None:
        open_group(work, run, 1, None)
        return "advanced"
    return settle(work, run, group)[0]
