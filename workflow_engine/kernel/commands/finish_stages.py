"""``stage.finish``: results of attempts are stored and their runs advance, each in one transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import partial

from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Places, Starter
from workflow_engine.kernel.events import StageStarted
from workflow_engine.kernel.finished import Finished, Kind, Outcome
from workflow_engine.kernel.finishing import finish_one
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import StartedStage, find_all_inputs, started_from
from workflow_engine.kernel.straight import can_go_straight, finish_straight
from workflow_engine.kernel.together import can_join, finish_together
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.statuses import AttemptOutcome, StageStatus

from .base import Command, handles

# What an attempt that ended by itself came to.
_KINDS: dict[str, Kind] = {
    AttemptOutcome.COMPLETED: "completed",
    AttemptOutcome.SUSPENDED: "suspended",
    AttemptOutcome.RETRYING: "retrying",
    AttemptOutcome.FAILED: "failed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishStagesResult:
    # Those that were left out are missing.
    finished: tuple[Finished, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishStages(Command[FinishStagesResult]):
    """Store what became of attempts.

    Args:
        starter: the caller goes on with what follows, as far as it takes those stages and has places for them, those
            of the attempts that end included.
        again: an earlier command with the same causation id may have been committed without an answer.
        together: all in one transaction, leaving out what must be finished alone (failures, artifacts, runs that
            somebody holds just now). If it raises, nothing is known: send every outcome again, alone.
    """

    type = "stage.finish"
    outcomes: tuple[Outcome, ...]
    starter: Starter | None = None
    again: bool = False
    together: bool = False
    # Alone: wait for runs that somebody holds; else those are left out.
    wait: bool = True


@handles(FinishStages)
def finish_stages(command: FinishStages, ports: Ports, causation_id: uuid.UUID) -> FinishStagesResult:
    if command.together:
        outcomes = [outcome for outcome in command.outcomes if can_join(outcome)]
        return FinishStagesResult(finished=_finish_together(command, outcomes, ports, causation_id))
    finished = []
    for outcome in command.outcomes:
        points.hit(points.COMPLETE_BEFORE)
        step = partial(_finish, outcome=outcome, starter=command.starter, wait=command.wait)
        done = transact(ports, causation_id, step, again=command.again)
        if done is not None:
            finished.append(done)
            points.hit(points.COMPLETE_AFTER)
    return FinishStagesResult(finished=tuple(finished))


def _finish_together(
    command: FinishStages, outcomes: list[Outcome], ports: Ports, causation_id: uuid.UUID
) -> tuple[Finished, ...]:
    if not outcomes:
        return ()
    straight = {outcome.stage.run_id: outcome for outcome in outcomes if can_go_straight(ports, outcome)}
    others = [outcome for outcome in outcomes if straight.get(outcome.stage.run_id) is not outcome]
    finished: list[Finished] = []
    starter = command.starter
    points.hit(points.COMPLETE_BEFORE)
    if straight:
        here = starter and replace(starter, slots=min(starter.slots, len(straight)) if others else starter.slots)
        step = partial(finish_straight, outcomes=tuple(straight.values()), starter=here)
        finished += transact(ports, causation_id, step, tries=1, plain=True)
    if others:
        there = starter and replace(starter, slots=max(0, starter.slots - len(straight)))
        finished += transact(ports, causation_id, lambda work: finish_together(work, others, there), tries=1)
    points.hit(points.COMPLETE_AFTER)
    return tuple(finished)


def _finish(work: UnitOfWork, outcome: Outcome, starter: Starter | None, wait: bool) -> Finished | None:
    stage = outcome.stage
    run = work.lock_run(stage.run_id, skip_locked=not wait)
    if run is None:
        there = not wait and WorkflowRun.objects.using(work.ports.using).filter(pk=stage.run_id).exists()
        return None if there else Finished(stage.stage_run_id, "ghost")
    places = Places(starter, work.ports) if starter and outcome.may_go_on else None
    finished = finish_one(work, run, outcome, places)
    if finished is None:
        return _ghost_or_mine(work, run, stage)
    points.hit(points.COMPLETE_IN_TX)
    return replace(finished, tells=work.tells)


def _ghost_or_mine(work: UnitOfWork, run: WorkflowRun, stage: StartedStage) -> Finished:
    """Tell a void token from a COMMIT of our own whose answer was lost: only we can have written that attempt."""
    attempts = StageAttempt.objects.using(work.ports.using).filter(
        stage_run=stage.stage_run_id, token=stage.token, worker=stage.worker_id
    )
    outcome = attempts.values_list("outcome", flat=True).first()
    if not work.repeated or outcome not in _KINDS:
        return Finished(stage.stage_run_id, "ghost")
    # Only what this very command has started: another thread of this process may have finished a sibling.
    told = run.events.using(work.ports.using).filter(causation_id=work.causation_id, type=StageStarted.type)
    tokens = {payload["stage_run_id"]: payload["token"] for payload in told.values_list("payload", flat=True)}
    going_on = StageRun.objects.using(work.ports.using).filter(
        pk__in=tokens, run=run, worker=stage.worker_id, status=StageStatus.RUNNING
    )
    rows = [row for row in going_on if row.token == tokens[str(row.pk)]]
    inputs = find_all_inputs(rows, {run.pk: run}, work.ports.using)
    started = tuple(started_from(row, run, reference) for row, reference in zip(rows, inputs, strict=True))
    return Finished(stage.stage_run_id, _KINDS[outcome], started)
