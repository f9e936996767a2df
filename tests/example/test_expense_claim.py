"""The workflow of expenses: from the claim to the booking, and what may go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from example_project.expenses import bank
from example_project.expenses.models import BankTransfer, Expense
from example_project.expenses.schemas import Settled, Transfer, Verdict
from example_project.expenses.workflows import approve, check, expense_claim, paid, pay, submit
from tests.invariants import check_all
from workflow_engine import Completion, NonRetryableError, RunResult, answer_stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow, stage_context

pytestmark = pytest.mark.django_db
YES = Verdict(outcome="approved", by="Grace")
NO = Verdict(outcome="rejected", by="Grace", note="Business class?")


@pytest.fixture
def expense() -> Callable[..., Expense]:
    def make(amount: str, **fields: Any) -> Expense:
        return Expense.objects.create(owner="Ada", amount=Decimal(amount), receipt=f"Hotel\nTotal {amount}", **fields)

    return make


def settle(expense: Expense, *, answer: Verdict | None = None) -> RunResult[Settled]:
    """Run the claim of an expense to its end; without ``answer`` no manager ever looks at it."""
    answers = {} if answer is None else {"manager": answer}
    result = run_workflow(expense_claim, subject=expense, answers=answers)
    expense.refresh_from_db()
    check_all()
    return result


def statuses(result: RunResult[Any]) -> dict[str, str]:
    return {stage.stage_id: stage.status for stage in result.stages}


def facts(result: RunResult[Any]) -> dict[str, Any]:
    return dict(WorkflowRun.objects.get(pk=result.run_id).annotations.values_list("key", "value"))


def test_a_small_expense_is_paid_without_asking_anybody(expense: Callable[..., Expense]) -> None:
    hotel = expense("100.00")

    result = settle(hotel)

    assert statuses(result) == {"check": "COMPLETED", "approve": "SKIPPED", "pay": "COMPLETED", "book": "COMPLETED"}
    transfer = BankTransfer.objects.get()
    assert result.output == Settled(status="paid", reference=f"T-{transfer.pk}")
    assert (transfer.payee, transfer.cents, transfer.questions) == ("Ada", 10_000, 3)
    assert (hotel.status, hotel.paid_out, hotel.reference) == ("paid", Decimal("100.00"), f"T-{transfer.pk}")


def test_a_large_expense_is_paid_once_a_manager_has_approved(expense: Callable[..., Expense]) -> None:
    hotel = expense("100.01")

    result = settle(hotel, answer=YES)

    assert (result.status, hotel.status, hotel.paid_out) == ("COMPLETED", "paid", Decimal("100.01"))
    assert facts(result) == {
        "decision.outcome": "approved",
        "decision.used_fallback": False,
        "approval.approvers": ["Grace"],
    }


def test_a_rejected_expense_costs_nothing(expense: Callable[..., Expense]) -> None:
    hotel = expense("2000.00")

    result = settle(hotel, answer=NO)

    assert (result.status, result.output, statuses(result)["pay"]) == (
        "COMPLETED",
        Settled(status="rejected"),
        "SKIPPED",
    )
    assert (hotel.status, hotel.paid_out, hotel.reference) == ("rejected", 0, "")
    assert not BankTransfer.objects.exists()


def test_without_an_answer_an_expense_is_rejected_after_two_weeks(expense: Callable[..., Expense]) -> None:
    hotel = expense("2000.00")

    result = settle(hotel)

    assert hotel.status == "rejected"
    assert result.duration is not None and result.duration >= timedelta(days=14)
    assert facts(result) == {
        "decision.outcome": "rejected",
        "decision.used_fallback": True,
        "approval.approvers": [],
    }


def test_a_bank_that_refuses_fails_the_run_and_books_nothing(expense: Callable[..., Expense]) -> None:
    hotel = expense("20.13")

    result = settle(hotel)

    assert result.error == {
        "code": "CHECK_FAILED",
        "class": "",
        "message": "the bank refused the transfer",
        "stage": "pay",
    }
    assert (hotel.status, hotel.paid_out) == ("submitted", 0)


def test_a_line_that_is_down_for_a_while_does_not_matter(expense: Callable[..., Expense]) -> None:
    hotel = expense("20.17")

    result = settle(hotel)

    assert (result.status, hotel.status) == ("COMPLETED", "paid")
    assert BankTransfer.objects.get().questions == 3


def test_a_line_that_stays_down_fails_the_run_after_five_tries(expense: Callable[..., Expense]) -> None:
    hotel = expense("20.19")

    result = settle(hotel)

    assert result.error is not None
    assert (result.error["class"], result.error["stage"], hotel.status) == ("ConnectionError", "pay", "submitted")
    assert BankTransfer.objects.get().questions == 5


@pytest.mark.parametrize("receipt", ["", "Total 41.99", "Subtotal 42.00", "Total 42"])
def test_a_receipt_that_does_not_show_the_amount_fails_for_good(receipt: str) -> None:
    hotel = Expense(owner="Ada", amount=Decimal("42.00"), receipt=receipt)

    with pytest.raises(NonRetryableError, match=r"The receipt says .*, the claim 42\.00\."):
        check(stage_context(check, subject=hotel))


def test_a_run_without_an_expense_says_how_to_start_one() -> None:
    with pytest.raises(NonRetryableError, match=r"submit\(expense\)"):
        check(stage_context(check))


def test_the_verdict_of_the_manager_goes_into_the_annotations() -> None:
    ctx = stage_context(approve, {"owner": "Ada", "cents": 1, "pay_at": "2030-01-01T00:00Z"}, answers={"manager": YES})

    assert approve(ctx) == YES
    assert ctx.desk.annotations["approval.approvers"] == ["Grace"]


def test_the_same_order_twice_is_one_transfer() -> None:
    first, second = (bank.order(key="k", payee="Ada", cents=5) for _ in range(2))

    assert first == second
    assert bank.ask(first) == "under way"


def test_an_expense_has_one_run_however_often_it_is_submitted(
    known: Callable[..., Any], host: InlineHost, expense: Callable[..., Expense]
) -> None:
    known(expense_claim)
    hotel = expense("500.00")

    runs = {submit(hotel, source="test").pk for _ in range(2)}

    run = WorkflowRun.objects.for_subject(hotel).get()
    assert runs == {run.pk}
    assert list(run.annotations.values_list("key", "value", "actor")) == [("trigger.source", "test", "Ada")]


def test_a_claim_holds_nothing_while_it_waits_for_weeks(
    known: Callable[..., Any], host: InlineHost, clock: FakeClock, expense: Callable[..., Expense]
) -> None:
    known(expense_claim)
    hotel = expense("500.00", pay_at=clock.now() + timedelta(days=20))
    run = submit(hotel, source="test")
    seen = []
    for step in (timedelta(0), timedelta(days=13), timedelta(days=7), timedelta(minutes=10)):
        clock.advance(step)
        host.drain()
        stage = StageRun.objects.filter(run=run, status="SUSPENDED").get()
        seen.append((stage.stage, stage.wait_kind, stage.wait_name, stage.worker))
        if stage.wait_kind == "answer" and step:
            answer_stage(run, approve, YES, actor="grace")
            host.drain()

    for _ in range(2):
        clock.advance(timedelta(minutes=10))
        host.drain()

    assert seen == [
        ("approve", "answer", "manager", None),
        ("approve", "answer", "manager", None),
        ("pay", "poll", "", None),
        ("pay", "poll", "", None),
    ]
    hotel.refresh_from_db()
    assert (WorkflowRun.objects.get(pk=run.pk).status, hotel.status) == ("COMPLETED", "paid")
    check_all()


def test_the_check_of_the_bank_can_be_called_alone() -> None:
    state = Transfer(number=bank.order(key="k", payee="Ada", cents=1))
    ctx = stage_context(pay)

    found = [paid(ctx, state) for _ in range(3)]

    assert found == [
        Completion.pending(),
        Completion.pending(),
        Completion.ready(Settled(status="paid", reference=state.number)),
    ]
