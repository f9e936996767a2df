"""``stage.answer``: a stage that waits for an answer gets it, and goes on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import (
    AlreadyAnswered,
    DatabaseConflict,
    FieldError,
    InvalidInput,
    NotWaiting,
    RunNotFound,
    StageNotFound,
    WorkflowNotFound,
    shown,
)
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_event
from workflow_engine.kernel.events import StageAnswered
from workflow_engine.kernel.idempotency import check_key, claim_key, hash_of, is_known
from workflow_engine.kernel.payloads import ValueMismatch, pack, scrub, write
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.suspending import memo_row
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import NOT_AN_ITEM, StageMemo, StageRun, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN, MemoKind, StageStatus, WaitKind

from .base import Command, handles

# What the column of an item's index holds on every database.
MOST_ITEMS = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerStageResult:
    # False: an earlier command with this idempotency key gave the answer.
    answered: bool
    wait: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerStage(Command[AnswerStageResult]):
    """Give a waiting stage its answer. The first valid one wins.

    Args:
        data: what the declared ``Wait`` takes; checked before anything moves.
        wait: name of the wait; None: the one for which the stage waits now.
        item: index of the item, for a stage that is mapped over a list.

    Raises:
        RunNotFound, StageNotFound: there is no such run, or no such stage in its plan.
        NotWaiting: the stage does not wait for this; the text says what it does.
        AlreadyAnswered: this wait has its answer.
        InvalidInput: ``data`` does not fit the wait's type; every field that is wrong is named.
        IdempotencyConflict, IdempotencyInProgress: see ``kernel.idempotency``.
    """

    type = "stage.answer"
    run_id: uuid.UUID
    stage_id: str
    data: Any = None
    wait: str | None = None
    item: int | None = None
    actor: str = ""
    idempotency_key: str | None = None
    idempotency_scope: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    wait: str
    value: dict[str, Any]
    stage_run_id: uuid.UUID


@handles(AnswerStage)
def answer_stage(command: AnswerStage, ports: Ports, causation_id: uuid.UUID) -> AnswerStageResult:
    if command.idempotency_key is not None:
        check_key(command.idempotency_key, "an answer")
    key, scope = command.idempotency_key, command.idempotency_scope
    prepared = None
    if key is None or not is_known(ports, command.type, scope, key):
        # Before any transaction: the value may be large, and go to the blob store.
        prepared = _prepare(command, ports)

    def step(work: UnitOfWork) -> AnswerStageResult:
        if key is not None and (stored := _claim(work, command, key, prepared)) is not None:
            # The same causation: an earlier try of this very command was committed although its answer was lost.
            return AnswerStageResult(answered=stored["causation_id"] == str(causation_id), wait=stored["wait"])
        if prepared is None:
            raise DatabaseConflict("The idempotency key was forgotten just now; repeat the command.")
        return _answer(work, command, prepared)

    result = transact(ports, causation_id, step)
    points.hit(points.ANSWER_AFTER)
    return result


def _prepare(command: AnswerStage, ports: Ports) -> _Prepared:
    run = WorkflowRun.objects.using(ports.using).select_related("data").filter(pk=command.run_id).first()
    if run is None:
        raise RunNotFound(command.run_id)
    _check_item(command)
    planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
    if command.stage_id not in planned:
        raise StageNotFound(run.workflow, command.stage_id, planned)
    row = _find(ports, command)
    name = _asked(run, row, command, _answers(ports, row))
    wait = _declared(ports, run, command.stage_id, name)
    if wait is None:
        raise NotWaiting(command.stage_id, f"the code here declares no wait {name!r} for it (a deploy under way?)")
    return _Prepared(name, _checked(wait, command, row, ports), row.pk)


def _declared(ports: Ports, run: WorkflowRun, stage_id: str, name: str) -> Wait[Any] | None:
    try:
        return ports.registry.get_workflow(run.workflow).get_stage(stage_id).get_wait(name)
    except (WorkflowNotFound, StageNotFound):
        # The run and its stage are there all the same: only this process's code lacks them.
        return None


def _check_item(command: AnswerStage) -> None:
    item = command.item
    if item is not None and (isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= MOST_ITEMS):
        problem = FieldError("item", f"must be the index of an item, from 0, got {shown(item)}"[:200])
        raise InvalidInput("an answer", [problem])


def _find(ports: Ports, command: AnswerStage) -> StageRun:
    rows = StageRun.objects.using(ports.using).current().filter(run=command.run_id, stage=command.stage_id)
    index = NOT_AN_ITEM if command.item is None else command.item
    row = rows.filter(map_index=index).defer("config", "output").first()
    if row is None:
        what = "it has not begun yet" if command.item is None else f"it has no item {command.item}"
        raise NotWaiting(command.stage_id, what)
    return row


def _answers(ports: Ports, row: StageRun) -> list[str]:
    memos = StageMemo.objects.using(ports.using).filter(stage_run=row.pk, kind__in=(MemoKind.ANSWER, MemoKind.DEFAULT))
    return list(memos.values_list("name", flat=True))


def _asked(run: WorkflowRun, row: StageRun, command: AnswerStage, answered: list[str]) -> str:
    """Return the name of the wait that is to be answered now. Raises ``NotWaiting``, ``AlreadyAnswered``."""
    if command.wait is not None and command.wait in answered:
        raise AlreadyAnswered(command.stage_id, command.wait)
    waits = row.status == StageStatus.SUSPENDED and row.wait_kind == WaitKind.ANSWER
    if run.status in FINISHED_RUN or not waits:
        if command.wait is None and answered:
            raise AlreadyAnswered(command.stage_id, answered[-1])
        what = f"the run is {run.status}" if run.status in FINISHED_RUN else f"it is {row.status}"
        raise NotWaiting(command.stage_id, what)
    if command.wait not in (None, row.wait_name):
        raise NotWaiting(command.stage_id, f"it waits for {row.wait_name!r}, not for {shown(command.wait)}")
    return row.wait_name


def _checked(wait: Wait[Any], command: AnswerStage, row: StageRun, ports: Ports) -> dict[str, Any]:
    what = f"the answer {wait.name!r} of stage {command.stage_id!r}"
    root = f"runs/{row.run_id}/{row.stage}/{row.generation}.answers/{row.map_index}-{wait.name}"
    try:
        data = write(wait.data, command.data)
        return pack(data, lambda digest: f"{root}-{digest}.json", ports.blobs, ports.limits, what)
    except ValueMismatch as error:
        raise InvalidInput(what, error.errors) from error


def _claim(work: UnitOfWork, command: AnswerStage, key: str, prepared: _Prepared | None) -> dict[str, Any] | None:
    return claim_key(
        work,
        command_type=command.type,
        scope=command.idempotency_scope,
        key=key,
        request_hash=_hash(command),
        result={"wait": prepared.wait if prepared else "", "causation_id": str(work.causation_id)},
        run_id=command.run_id,
    )


def _hash(command: AnswerStage) -> str:
    names = ("stage_id", "data", "wait", "item")
    return hash_of({"run_id": str(command.run_id), **{name: getattr(command, name) for name in names}})


def _answer(work: UnitOfWork, command: AnswerStage, prepared: _Prepared) -> AnswerStageResult:
    using = work.ports.using
    run = work.lock_run(command.run_id)
    row = StageRun.objects.using(using).current().filter(pk=prepared.stage_run_id).first()
    if run is None:
        raise RunNotFound(command.run_id)
    if row is None:
        raise NotWaiting(command.stage_id, "the run was rerun meanwhile")
    if work.repeated and _is_mine(work, run):
        return AnswerStageResult(answered=True, wait=prepared.wait)
    # Asked again under the lock: another answer, the deadline or a cancellation may have been quicker.
    name = _asked(run, row, command, _answers(work.ports, row))
    if name != prepared.wait:
        raise NotWaiting(command.stage_id, f"it waits for {name!r} by now")
    actor = scrub(command.actor)[:150]
    work.insert(StageMemo, [memo_row(work, row, MemoKind.ANSWER, name, value=prepared.value, actor=actor)])
    facts = stage_event(row)
    if not row.resume(at=work.now):
        raise NotWaiting(command.stage_id, "it has just gone on")
    work.emit(run, StageAnswered(**facts, wait=name, actor=actor or None))
    work.ring(row)
    points.hit(points.ANSWER_IN_TX)
    return AnswerStageResult(answered=True, wait=name)


def _is_mine(work: UnitOfWork, run: WorkflowRun) -> bool:
    told = run.events.using(work.ports.using).filter(causation_id=work.causation_id, type=StageAnswered.type)
    return told.exists()
