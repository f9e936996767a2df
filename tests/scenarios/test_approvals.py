"""Waiting for answers: an expense that a manager approves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tests.hosts.working import status_of, working
from tests.invariants import check_all, events
from tests.waiting import until
from workflow_engine import Wait, answer_stage, cancel_run, create_run, rerun_from
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.errors import (
    AlreadyAnswered,
    IdempotencyConflict,
    InvalidInput,
    NotWaiting,
    RunNotFound,
    StageNotFound,
)
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, StageAttempt, StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow

pytestmark = pytest.mark.django_db


class Expense(BaseModel):
    amount: float


class Decision(BaseModel):
    outcome: Literal["approved", "rejected"]
    note: str = ""


MANAGER = Wait("manager", Decision, max_wait=timedelta(days=3))
LATE = Decision(outcome="rejected", note="too late")
AUDITOR = Wait("auditor", Decision, max_wait=timedelta(days=1), default=LATE)


@stage("approve", waits=[MANAGER])
def approve(ctx: StageContext[Expense]) -> Decision:
    ctx.annotate("asked", ctx.input.amount)
    return ctx.wait_for(MANAGER)


@stage("audit", waits=[AUDITOR])
def audit(ctx: StageContext[Decision]) -> Decision:
    return ctx.wait_for(AUDITOR)


@stage("book")
def book(ctx: StageContext[Decision]) -> str:
    return f"{ctx.input.outcome} {ctx.input.note}".strip()


@pytest.fixture
def approval(known: Callable[..., Any]) -> Workflow[Expense, str]:
    workflow = define_workflow("approval", input=Expense).pipe(approve).pipe(book).build()
    known(workflow)
    return workflow


@pytest.fixture
def waiting(approval: Workflow[Expense, str], host: InlineHost) -> WorkflowRun:
    """Return a run whose first stage waits for the manager."""
    run = create_run(approval, {"amount": 12})
    host.drain()
    return run


def stage_of(run: WorkflowRun, stage_id: str = "approve") -> StageRun:
    return StageRun.objects.get(run=run, stage=stage_id)


def test_a_run_waits_for_its_answer_without_holding_anything_and_goes_on_with_it(
    waiting: WorkflowRun, host: InlineHost, clock: FakeClock
) -> None:
    row = stage_of(waiting)
    assert (row.status, row.wait_kind, row.wait_name, row.worker) == ("SUSPENDED", "answer", "manager", None)
    assert row.wait_until == row.wake_at == clock.now() + timedelta(days=3)
    assert host.drain() == 0

    answered = answer_stage(waiting, approve, Decision(outcome="approved", note="fine"), actor="ada")
    host.drain()

    waiting.refresh_from_db()
    assert (answered, waiting.status, waiting.get_output()) == (True, "COMPLETED", "approved fine")
    memo = StageMemo.objects.get()
    assert (memo.kind, memo.name, memo.actor, memo.created_at) == ("answer", "manager", "ada", clock.now())
    assert memo.get_value() == {"outcome": "approved", "note": "fine"}
    assert events(waiting) == [
        "run.created",
        "run.started",
        "stage.started",
        "stage.suspended",
        "run.suspended",
        "stage.answered",
        "stage.started",
        "stage.completed",
        "stage.started",
        "stage.completed",
        "run.completed",
    ]
    told = OutboxEvent.objects.get(type="stage.answered").payload
    assert (told["stage_id"], told["wait"], told["actor"], told["by_default"]) == ("approve", "manager", "ada", False)
    outcomes = StageAttempt.objects.filter(stage="approve").order_by("id").values_list("outcome", flat=True)
    assert list(outcomes) == ["suspended", "completed"]
    check_all()


def test_facts_that_the_body_states_again_after_the_answer_are_kept_once(
    waiting: WorkflowRun, host: InlineHost
) -> None:
    answer_stage(waiting, approve, {"outcome": "approved"})
    host.drain()

    assert list(waiting.annotations.values_list("key", "value")) == [("asked", 12)]


@pytest.mark.parametrize(
    ("data", "path"),
    [({"outcome": "maybe"}, "outcome"), ({}, "outcome"), ("approved", ""), (None, ""), ({"outcome": 1}, "outcome")],
)
def test_an_answer_that_does_not_fit_is_refused_and_the_stage_goes_on_waiting(
    waiting: WorkflowRun, host: InlineHost, data: Any, path: str
) -> None:
    before = events(waiting)

    with pytest.raises(InvalidInput) as refused:
        answer_stage(waiting, approve, data)

    assert [error.path for error in refused.value.errors] == [path]
    assert (stage_of(waiting).status, events(waiting), StageMemo.objects.count()) == ("SUSPENDED", before, 0)
    answer_stage(waiting, approve, {"outcome": "approved"})
    host.drain()
    assert WorkflowRun.objects.get(pk=waiting.pk).status == "COMPLETED"


def test_the_first_answer_wins(waiting: WorkflowRun, host: InlineHost) -> None:
    answer_stage(waiting, approve, {"outcome": "approved"})

    for wait in (None, "manager", MANAGER):
        with pytest.raises(AlreadyAnswered):
            answer_stage(waiting, approve, {"outcome": "rejected"}, wait=wait)
    host.drain()
    with pytest.raises(AlreadyAnswered):
        answer_stage(waiting, approve, {"outcome": "rejected"})

    assert WorkflowRun.objects.get(pk=waiting.pk).get_output() == "approved"


def test_an_answer_to_what_does_not_wait_says_why(
    waiting: WorkflowRun, approval: Workflow[Expense, str], host: InlineHost
) -> None:
    untouched = create_run(approval, {"amount": 1})

    with pytest.raises(RunNotFound):
        answer_stage(uuid.uuid4(), approve, {})
    with pytest.raises(StageNotFound, match="'approve', 'book'"):
        answer_stage(waiting, "approve-all", {})
    with pytest.raises(NotWaiting, match="it has not begun yet"):
        answer_stage(untouched, approve, {"outcome": "approved"})
    with pytest.raises(NotWaiting, match="it has no item 3"):
        answer_stage(waiting, approve, {"outcome": "approved"}, item=3)
    with pytest.raises(NotWaiting, match="it waits for 'manager', not for 'boss'"):
        answer_stage(waiting, approve, {"outcome": "approved"}, wait="boss")
    cancel_run(waiting)
    with pytest.raises(NotWaiting, match="the run is CANCELLED"):
        answer_stage(waiting, approve, {"outcome": "approved"})
    assert StageMemo.objects.count() == 0


def test_an_answer_with_a_key_is_given_once_and_its_key_is_bound_to_it(waiting: WorkflowRun, host: InlineHost) -> None:
    answers = [answer_stage(waiting, approve, {"outcome": "approved"}, idempotency_key="a") for _ in range(3)]
    host.drain()
    answers.append(answer_stage(waiting, approve, {"outcome": "approved"}, idempotency_key="a"))
    with pytest.raises(IdempotencyConflict):
        answer_stage(waiting, approve, {"outcome": "rejected"}, idempotency_key="a")

    assert answers == [True, False, False, False]
    assert OutboxEvent.objects.filter(type="stage.answered").count() == 1


def test_a_refused_answer_leaves_its_key_free(waiting: WorkflowRun) -> None:
    with pytest.raises(InvalidInput):
        answer_stage(waiting, approve, {"outcome": "maybe"}, idempotency_key="a")

    assert answer_stage(waiting, approve, {"outcome": "approved"}, idempotency_key="a")


def test_without_an_answer_in_time_the_stage_fails_and_says_what_it_waited_for(
    waiting: WorkflowRun, host: InlineHost, clock: FakeClock
) -> None:
    clock.advance(timedelta(days=3))

    host.drain()

    run = WorkflowRun.objects.get(pk=waiting.pk)
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "WAIT_EXPIRED", "approve")
    assert "'manager'" in run.error["message"]
    assert events(run)[-2:] == ["stage.failed", "run.failed"]
    check_all()


def test_a_default_answer_is_given_at_the_deadline(
    known: Callable[..., Any], host: InlineHost, clock: FakeClock
) -> None:
    known(define_workflow("audits", input=Decision).pipe(audit).pipe(book).build())
    run = create_run("audits", {"outcome": "approved"})
    host.drain()
    clock.advance(timedelta(hours=23))
    assert host.drain() == 0
    clock.advance(timedelta(hours=1))

    host.drain()

    run.refresh_from_db()
    assert run.get_output() == "rejected too late"
    told = OutboxEvent.objects.get(type="stage.answered").payload
    assert (told["by_default"], told.get("actor"), StageMemo.objects.get().kind) == (True, None, "default")
    with pytest.raises(AlreadyAnswered):
        answer_stage(run, audit, {"outcome": "approved"})
    check_all()


def test_an_answer_after_the_deadline_still_counts_while_nobody_has_noticed(
    waiting: WorkflowRun, host: InlineHost, clock: FakeClock
) -> None:
    clock.advance(timedelta(days=30))

    answer_stage(waiting, approve, {"outcome": "approved"})
    host.drain()

    assert WorkflowRun.objects.get(pk=waiting.pk).status == "COMPLETED"


def test_cancelling_a_waiting_run_is_prompt(waiting: WorkflowRun, host: InlineHost) -> None:
    assert cancel_run(waiting, reason="no longer needed")

    assert stage_of(waiting).status == "CANCELLED"
    assert host.drain() == 0
    assert events(waiting)[-2:] == ["stage.cancelled", "run.cancelled"]
    check_all()


def test_a_stage_can_ask_several_people_one_after_the_other(known: Callable[..., Any], host: InlineHost) -> None:
    first, second = Wait("first", int), Wait("second", int)

    @stage("add", waits=[first, second])
    def add(ctx: StageContext[None]) -> int:
        return ctx.wait_for(first) + ctx.wait_for(second)

    workflow = define_workflow("sum").pipe(add).build()
    known(workflow)
    run = create_run(workflow)
    host.drain()
    answer_stage(run, add, 1)
    host.drain()
    assert stage_of(run, "add").wait_name == "second"
    answer_stage(run, add, 2)
    host.drain()

    run.refresh_from_db()
    assert (run.get_output(), stage_of(run, "add").attempt) == (3, 3)


def test_a_wait_without_a_deadline_waits_for_years(
    known: Callable[..., Any], host: InlineHost, clock: FakeClock
) -> None:
    patient = Wait("patient", bool)

    @stage("wait", waits=[patient])
    def wait(ctx: StageContext[None]) -> bool:
        return ctx.wait_for(patient)

    known(define_workflow("patience").pipe(wait).build())
    run = create_run("patience")
    host.drain()
    clock.advance(timedelta(days=3650))
    assert host.drain() == 0
    answer_stage(run, wait, False)
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", False)


def test_waiting_for_what_is_not_declared_fails_the_stage_for_good(known: Callable[..., Any], host: InlineHost) -> None:
    @stage("careless")
    def careless(ctx: StageContext[None]) -> Decision:
        return ctx.wait_for(MANAGER)

    known(define_workflow("careless-wait").pipe(careless).build())
    run = create_run("careless-wait")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("FAILED", "INVALID_DEFINITION")
    assert "waits for 'manager', which it does not declare" in run.error["message"]
    assert "waits=[…]" in run.error["message"]
    assert stage_of(run, "careless").attempt == 1


def test_an_async_body_waits_like_any_other(known: Callable[..., Any], host: InlineHost) -> None:
    @stage("approve-async", waits=[MANAGER])
    async def approve_async(ctx: StageContext[None]) -> str:
        return (await ctx.await_for(MANAGER)).outcome

    workflow = define_workflow("async-approval").pipe(approve_async).build()

    assert run_workflow(workflow, answers={"manager": Decision(outcome="approved")}).output == "approved"


def in_group(ctx: StageContext[None]) -> Coroutine[Any, Any, list[Decision]]:
    async def ask() -> list[Decision]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.await_for(wait)) for wait in (MANAGER, AUDITOR)]
        return [task.result() for task in tasks]

    return ask()


def gathered(ctx: StageContext[None]) -> Coroutine[Any, Any, list[Decision]]:
    async def ask() -> list[Decision]:
        return list(await asyncio.gather(ctx.await_for(MANAGER), ctx.await_for(AUDITOR)))

    return ask()


@pytest.mark.parametrize("ask", [in_group, gathered])
@pytest.mark.parametrize("on_loop", [False, True], ids=["a loop of its own", "the worker's loop"])
@pytest.mark.django_db(transaction=True)
def test_an_async_body_that_waits_for_several_answers_at_once_gets_them_one_after_the_other(
    known: Callable[..., Any], ask: Callable[[Any], Any], on_loop: bool
) -> None:
    @stage("ask-both", waits=[MANAGER, AUDITOR], retry=Retry(max_attempts=1))
    async def ask_both(ctx: StageContext[None]) -> str:
        return ",".join(answer.outcome for answer in await ask(ctx))

    workflow = known(define_workflow("both").pipe(ask_both).build())
    answers = {"manager": Decision(outcome="approved"), "auditor": Decision(outcome="rejected")}
    if not on_loop:
        assert run_workflow(workflow, answers=answers).output == "approved,rejected"
        return
    with working():
        run = create_run("both")
        for _ in answers:
            until(lambda: StageRun.objects.filter(status="SUSPENDED").exists(), "it waits")
            wait = StageRun.objects.get().wait_name
            answer_stage(run, ask_both, answers[wait])
        until(lambda: status_of(run) == "COMPLETED", "it has both answers")


def test_run_workflow_gives_answers_and_says_which_one_is_missing(approval: Workflow[Expense, str], db: None) -> None:
    result = run_workflow(approval, {"amount": 1}, answers={"manager": Decision(outcome="rejected")})
    expired = run_workflow(approval, {"amount": 1})

    assert (result.output, expired.status) == ("rejected", "FAILED")
    endless = Wait("endless", int)

    @stage("endless", waits=[endless])
    def wait(ctx: StageContext[None]) -> int:
        return ctx.wait_for(endless)

    with pytest.raises(AssertionError, match="'endless' of stage 'endless': pass answers="):
        run_workflow(define_workflow("endless").pipe(wait).build())


def test_a_large_answer_goes_to_the_blob_store(known: Callable[..., Any], host: InlineHost) -> None:
    report = Wait("report", str)

    @stage("read", waits=[report])
    def read(ctx: StageContext[None]) -> int:
        return len(ctx.wait_for(report))

    known(define_workflow("reports").pipe(read).build())
    run = create_run("reports")
    host.drain()
    answer_stage(run, read, "x" * 100_000)
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == 100_000
    assert "blob" in StageMemo.objects.get().value


@pytest.mark.parametrize("function", [rerun_from, partial(answer_stage, data={})], ids=["rerun", "answer"])
def test_what_is_no_stage_is_named(approval: Workflow[Expense, str], db: None, function: Any) -> None:
    run = create_run("approval", {"amount": 1})

    with pytest.raises(InvalidInput, match="stage: must be a stage or its id, got None"):
        function(run, stage=None)
