"""``stage.poll_suspended``: completion checks that are due are claimed, each by one worker, with a new token."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from workflow_engine.kernel import points
from workflow_engine.kernel.checked import ClaimedCheck, claimed_from
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import find_all_inputs
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun
from workflow_engine.models.runs import family

from .base import Command, handles

UNKNOWN_CHECK_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class PollSuspendedStagesResult:
    # The longest waiting first.
    claimed: tuple[ClaimedCheck, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PollSuspendedStages(Command[PollSuspendedStagesResult]):
    """Claim due checks of known, unpaused runs for ``worker_id``, which makes each and sends what it found.

    Args:
        queues: only stages of these queues; None: of all.
        run_id: only stages of this run.
    """

    type = "stage.poll_suspended"
    worker_id: uuid.UUID
    max: int = 10
    queues: tuple[str, ...] | None = None
    run_id: uuid.UUID | None = None


@handles(PollSuspendedStages)
def poll_suspended_stages(
    command: PollSuspendedStages, ports: Ports, causation_id: uuid.UUID
) -> PollSuspendedStagesResult:
    claimed = transact(ports, causation_id, lambda work: _claim(work, command))
    points.hit(points.POLL_CLAIMED)
    return PollSuspendedStagesResult(claimed=tuple(claimed))


def _claim(work: UnitOfWork, command: PollSuspendedStages) -> list[ClaimedCheck]:
    ports = work.ports
    rows = StageRun.objects.using(ports.using)
    workflows, paused = ports.takable_workflows(), ports.pauses().queues
    due = rows.checkable(ports.clock.db_now(), command.queues, workflows, paused=paused)
    if command.run_id is not None:
        due = due.filter(family("run", command.run_id))
    known = []
    for row in rows.lock_checks(due, command.max):
        if _has_check(ports, row):
            known.append(row)
        else:
            # A deploy under way: another process may know it.
            row.check_again(wake_at=work.now + UNKNOWN_CHECK_WAIT)
    rows.take_checks(known, command.worker_id)
    inputs = find_all_inputs(known, {row.run_id: row.run for row in known}, ports.using)
    return [claimed_from(row, row.run, reference) for row, reference in zip(known, inputs, strict=True)]


def _has_check(ports: Ports, row: StageRun) -> bool:
    workflow = ports.registry.get_workflow(row.run.workflow)
    return workflow.has_stage(row.stage) and workflow.get_stage(row.stage).check is not None
