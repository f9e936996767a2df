"""``run.rerun_from``: a run that has ended goes on from a stage, in a new generation; what came before is kept."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from workflow_engine.errors import DatabaseConflict, RunNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.events import RunRerun
from workflow_engine.kernel.idempotency import check_key, claim_key, hash_of
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.rerunning import begin_again
from workflow_engine.kernel.reruns import check_ended, current_rows, make_plan, merge_config, read_run, standing
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import OutboxEvent

from .base import Command, handles

MOST_PASSES = 5
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunFromResult:
    run_id: uuid.UUID
    generation: int
    # The stages whose earlier rows no longer count, in the plan's order.
    superseded: tuple[str, ...]
    # True: an earlier command with this idempotency key did it.
    replayed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunFrom(Command[RerunFromResult]):
    """Let a run that has ended go on from a stage: its whole group and all later ones run again.

    Args:
        config: stage id -> fields, laid over what the run has stored; for stages that run again.
        only_failed_items: the stage is mapped, and of its items only those that have not succeeded run again.

    Raises:
        RunNotFound, StageNotFound, InvalidConfig, InvalidPayload: nothing was written.
        WorkflowNotFound: there is config, and the workflow is not registered here.
        InvalidTransition: the run has not ended, a stage in an earlier group has not succeeded, or there are no
            failed items.
        IdempotencyConflict, IdempotencyInProgress: see ``kernel.idempotency``.
    """

    type = "run.rerun_from"
    run_id: uuid.UUID
    stage_id: str
    config: Mapping[str, Any] | None = None
    only_failed_items: bool = False
    actor: str = ""
    idempotency_key: str | None = None
    idempotency_scope: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    generation: int
    config: dict[str, dict[str, Any]]
    request_hash: str


class _Moved(Exception):
    """The run was rerun between the look at it and its lock."""


@handles(RerunFrom)
def rerun_from(command: RerunFrom, ports: Ports, causation_id: uuid.UUID) -> RerunFromResult:
    if command.idempotency_key is not None:
        check_key(command.idempotency_key, f"a rerun of run {command.run_id}")
    result = rerun_with(command, ports, lambda step: transact(ports, causation_id, step))
    points.hit(points.RERUN_AFTER)
    return result


def rerun_with(command: RerunFrom, ports: Ports, run: Callable[[Callable[[UnitOfWork], RerunFromResult]], T]) -> T:
    """Let ``run`` do the rerun, given as the step of a transaction, as often as others rerun it meanwhile."""
    for _ in range(MOST_PASSES):
        # Validating is the user's code, so it is done before; the generation tells whether it still holds.
        prepared = _prepare(command, ports)
        try:
            return run(lambda work: _rerun(work, command, prepared))  # noqa: B023
        except _Moved:
            continue
    raise DatabaseConflict(f"Run {command.run_id} was rerun by others {MOST_PASSES} times meanwhile; repeat.")


def _prepare(command: RerunFrom, ports: Ports) -> _Prepared:
    run = read_run(ports, command.run_id)
    config = merge_config(ports, run, command.stage_id, command.config)
    content = {
        "run": str(command.run_id),
        "stage": command.stage_id,
        "config": to_jsonable_python(command.config, fallback=repr),
    }
    if command.only_failed_items:
        content["only_failed_items"] = True
    return _Prepared(run.generation, config, hash_of(content))


def _rerun(work: UnitOfWork, command: RerunFrom, prepared: _Prepared) -> RerunFromResult:
    if command.idempotency_key is not None:
        mine = {"generation": prepared.generation + 1, "causation_id": str(work.causation_id)}
        stored = claim_key(
            work,
            command_type=command.type,
            scope=command.idempotency_scope,
            key=command.idempotency_key,
            request_hash=prepared.request_hash,
            result=mine,
            run_id=command.run_id,
        )
        if stored is not None:
            # The same causation: an earlier try of this very command was committed although its answer was lost.
            replayed = stored["causation_id"] != mine["causation_id"]
            return _done(work, command.run_id, generation=stored["generation"], replayed=replayed)
    run = work.lock_run(command.run_id)
    if run is None:
        raise RunNotFound(command.run_id)
    if work.repeated and (done := _done(work, run.pk, causation_id=work.causation_id)).generation:
        return done
    check_ended(run)
    if run.generation != prepared.generation:
        raise _Moved
    rows = current_rows(work.ports, run)
    stages = standing(run, rows)
    plan = make_plan(run, command.stage_id, stages, rows=rows, only_failed_items=command.only_failed_items)
    actor = scrub(command.actor)[:150]
    superseded = begin_again(work, run, plan, rows, prepared.config, actor=actor or None)
    points.hit(points.RERUN_IN_TX)
    return RerunFromResult(run_id=run.pk, generation=run.generation, superseded=superseded)


def _done(work: UnitOfWork, run_id: uuid.UUID, *, replayed: bool = False, **facts: Any) -> RerunFromResult:
    """Return what the rerun that ``facts`` of its event describe has done; generation 0: there is no such event."""
    events = OutboxEvent.objects.using(work.ports.using).filter(run=run_id, type=RunRerun.type, **facts)
    generation, payload = events.values_list("generation", "payload").first() or (facts.get("generation", 0), {})
    superseded = tuple(payload.get("superseded", ()))
    return RerunFromResult(run_id=run_id, generation=generation, superseded=superseded, replayed=replayed)
