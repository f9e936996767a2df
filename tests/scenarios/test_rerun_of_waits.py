"""Reruns of stages that wait or are skipped: what was asked before is asked again, what was decided is decided anew."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from tests.reruns import fresh, rows
from tests.workflows import Number
from workflow_engine import Completion, Output, Wait, answer_stage, cancel_run, create_run, rerun_from
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import IdempotencyConflict, NotWaiting
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.testing import FakeClock

APPROVED = Wait("approved", bool, max_wait=timedelta(days=1))


@stage("submit")
def submit(ctx: StageContext[Number]) -> Number:
    ctx.metric("cost", 2.5)
    ctx.suspend({"value": ctx.input.value})


@submit.check_completion
def submitted(ctx: StageContext[Number], state: dict[str, int]) -> Completion[Number]:
    ctx.metric("tokens", 40)
    return Completion.ready(Number(value=state["value"]))


@stage("approve", waits=[APPROVED])
def approve(ctx: StageContext[Number]) -> bool:
    return ctx.wait_for(APPROVED)


@stage("pay", when=Output(approve) == True)  # noqa: E712 - a condition, not a comparison
def pay(ctx: StageContext[bool]) -> str:
    return "paid"


@stage("report")
def report(ctx: StageContext[Any]) -> str:
    return str(ctx.input)


@pytest.fixture(autouse=True)
def workflow(known: Any, kernel: Any) -> None:
    known(define_workflow("payment", input=Number).pipe(submit).pipe(approve).pipe(pay).pipe(report).build())


def until_asked(host: InlineHost, clock: FakeClock) -> Any:
    run = create_run("payment", {"value": 1})
    host.drain()
    clock.advance(timedelta(seconds=31))
    host.drain()
    return run


def test_a_checked_stage_counts_what_its_body_and_its_check_have_cost(host: InlineHost, clock: FakeClock) -> None:
    run = fresh(until_asked(host, clock))

    assert (run.total_cost, run.total_tokens) == (2.5, 40)
    check_all()


def test_a_stage_that_is_rerun_asks_again_and_conditions_are_decided_anew(host: InlineHost, clock: FakeClock) -> None:
    run = until_asked(host, clock)
    answer_stage(run, approve, False)
    host.drain()
    first = fresh(run).get_output()

    rerun_from(run, approve)
    host.drain()
    waiting = rows(run)
    answer_stage(run, approve, True)
    host.drain()

    assert first == "False"
    assert waiting == [("submit", "COMPLETED", 0), ("approve", "SUSPENDED", 1)]
    assert fresh(run).get_output() == "paid"
    assert [status for _, status, _ in rows(run)] == ["COMPLETED"] * 4
    assert (fresh(run).total_cost, fresh(run).total_tokens) == (2.5, 40)
    check_all()


def test_a_skipped_stage_is_kept_like_one_that_is_done(host: InlineHost, clock: FakeClock) -> None:
    run = until_asked(host, clock)
    answer_stage(run, approve, False)
    host.drain()

    rerun_from(run, report)
    host.drain()

    assert rows(run)[2:] == [("pay", "SKIPPED", 0), ("report", "COMPLETED", 1)]
    assert fresh(run).get_output() == "False"
    check_all()


def test_the_answer_to_a_stage_of_an_earlier_generation_helps_nobody(host: InlineHost, clock: FakeClock) -> None:
    run = until_asked(host, clock)
    cancel_run(run)
    rerun_from(run, approve)

    with pytest.raises(NotWaiting):
        answer_stage(run, approve, True)

    host.drain()
    assert answer_stage(run, approve, True, idempotency_key="one")
    with pytest.raises(IdempotencyConflict):
        answer_stage(run, approve, False, idempotency_key="one")
    host.drain()
    assert fresh(run).get_output() == "paid"
    check_all()
