"""``crash_test`` finds the stages that are not safe to repeat, and only those."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail

from workflow_engine import Completion, StageContext, Wait, define_workflow, stage
from workflow_engine.models import WorkflowRun
from workflow_engine.testing import crash_test

# As a project gets it by ``pytest_plugins``; by another name, beside the function itself.
from workflow_engine.testing.fixtures import crash_test as checked  # noqa: F401

pytestmark = pytest.mark.django_db


class Bank:
    """An outside service: what was charged is charged."""

    def __init__(self) -> None:
        self.charges: list[tuple[str, int]] = []

    def charge(self, amount: int, key: str = "") -> str:
        if not key or key not in dict(self.charges):
            self.charges.append((key, amount))
        return f"receipt {len(self.charges)}"

    def counted(self) -> dict[str, float]:
        return {"charges": len(self.charges)}


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_a_body_that_charges_each_time_it_runs_is_named_with_its_line(bank: Bank) -> None:
    @stage("look-up")
    def look_up(ctx: StageContext[int]) -> int:
        return ctx.input + 1

    @stage("charge")
    def charge(ctx: StageContext[int]) -> str:
        amount = ctx.input * 2
        receipt = bank.charge(amount)
        ctx.log.info("charged")
        return receipt

    workflow = define_workflow("unsafe", input=int).pipe(look_up).pipe(charge).build()

    report = crash_test(workflow, 1, effects=bank.counted, reset=bank.charges.clear)

    (found,) = report.unsafe
    assert (found.stage_id, found.effect, found.expected, found.found) == ("charge", "charges", 1, 2)
    assert found.line is not None
    assert found.line.text == "receipt = bank.charge(amount)"
    assert report.status == "COMPLETED"
    assert report.effects == {"charges": 1}
    assert report.deaths > 20
    with pytest.raises(AssertionError, match=r"charge: charges 2 instead of 1, after .*receipt = bank\.charge"):
        report.check()


def test_a_body_that_says_what_it_does_once_is_safe(bank: Bank) -> None:
    @stage("charge")
    def charge(ctx: StageContext[int]) -> str:
        key = ctx.idempotency_token
        receipt = bank.charge(ctx.input, key)
        return receipt

    @stage("note")
    def note(ctx: StageContext[str]) -> str:
        ctx.on_complete(lambda: Group.objects.create(name=ctx.input))
        return ctx.input

    @stage("book", atomic=True, timeout=timedelta(seconds=5))
    def book(ctx: StageContext[str]) -> str:
        Group.objects.create(name=f"booked {ctx.input}")
        return ctx.input

    workflow = define_workflow("safe", input=int).pipe(charge).pipe(note).pipe(book).build()

    report = crash_test(workflow, 1, effects=bank.counted, reset=bank.charges.clear)

    report.check()
    assert report.effects == {"charges": 1, "auth.Group": 2}


def test_rows_and_mails_are_counted_without_being_told(bank: Bank) -> None:
    @stage("greet")
    def greet(ctx: StageContext[None]) -> str:
        Group.objects.get_or_create(name="once")
        mail.send_mail("hello", "you", None, ["ada@example.com"])
        return "sent"

    report = crash_test(define_workflow("greeting").pipe(greet).build())

    assert [(one.effect, one.found) for one in report.unsafe] == [("mails", 2)]
    assert report.effects == {"auth.Group": 1, "mails": 1}


def test_every_run_is_undone(bank: Bank) -> None:
    @stage("greet")
    def greet(ctx: StageContext[None]) -> str:
        Group.objects.get_or_create(name=str(ctx.run_id))
        mail.send_mail("hello", "you", None, ["ada@example.com"])
        return "sent"

    crash_test(define_workflow("greeting").pipe(greet).build())

    assert not WorkflowRun.objects.exists()
    assert not Group.objects.exists()
    assert mail.outbox == []


@pytest.mark.one_database
def test_waits_maps_children_and_coroutines_are_died_in_too(bank: Bank, known: Any) -> None:
    ask = Wait("ask", str)

    @stage("child-stage")
    async def child_stage(ctx: StageContext[int]) -> int:
        bank.charge(ctx.input, ctx.idempotency_token)
        return ctx.input

    child = define_workflow("child", input=int).pipe(child_stage).build()

    @stage("numbers")
    def numbers(ctx: StageContext[None]) -> list[int]:
        return [1]

    @stage("each")
    def each(ctx: StageContext[int]) -> int:
        return int(ctx.run_child("child", ctx.input))

    @stage("wait", waits=[ask])
    def wait(ctx: StageContext[list[int]]) -> str:
        ctx.sleep(timedelta(hours=1))
        return ctx.wait_for(ask)

    @stage("submit")
    def submit(ctx: StageContext[str]) -> str:
        job = ctx.once("submit", lambda: bank.charge(7))
        ctx.suspend({"job": job})

    @submit.check_completion
    def check(ctx: StageContext[str], state: dict[str, str]) -> Completion[str]:
        return Completion.ready(state["job"])

    known(child, define_workflow("whole").pipe(numbers).map(each).pipe(wait).pipe(submit).build())

    report = crash_test("whole", effects=bank.counted, reset=bank.charges.clear, answers={"ask": "yes"})

    # A sub-step is done once, unless its worker dies before its result is written down.
    assert [(one.stage_id, one.found) for one in report.unsafe] == [("submit", 3)]
    assert report.effects == {"charges": 2}
    assert not report.changed
    assert report.status == "COMPLETED"


def test_a_run_that_ends_otherwise_after_a_death_is_told(bank: Bank) -> None:
    seen: list[int] = []

    @stage("picky")
    def picky(ctx: StageContext[None]) -> str:
        seen.append(1)
        if len(seen) > 1:
            raise ValueError("not twice")
        return "well"

    report = crash_test(define_workflow("picky").pipe(picky).build(), reset=seen.clear)

    assert {status for _, status in report.changed} == {"FAILED"}
    assert "ended as FAILED instead of COMPLETED after line" in str(report)
    assert not report.is_safe


def test_a_run_that_never_ends_is_an_error_of_the_test() -> None:
    ask = Wait("ask", str)

    @stage("asks", waits=[ask])
    def asks(ctx: StageContext[None]) -> str:
        return ctx.wait_for(ask)

    with pytest.raises(AssertionError, match="waits for the answer to 'ask'"):
        crash_test(define_workflow("asking").pipe(asks).build())


def test_a_repetition_that_the_database_refuses_is_told_too() -> None:
    @stage("enter")
    def enter(ctx: StageContext[None]) -> str:
        Group.objects.create(name="only one")
        return "entered"

    report = crash_test(define_workflow("entering").pipe(enter).build())

    assert {status for _, status in report.changed} == {"IntegrityError"}
    assert not Group.objects.exists()


def test_the_fixture_fails_a_test_whose_workflow_is_unsafe(checked: Any) -> None:  # noqa: F811
    @stage("greet")
    def greet(ctx: StageContext[None]) -> str:
        mail.send_mail("hello", "you", None, ["ada@example.com"])
        return "sent"

    with pytest.raises(AssertionError, match="greet: mails 2 instead of 1"):
        checked(define_workflow("greeting").pipe(greet).build())
