"""Workers die while an expense waits for the bank, and while it is booked: it is paid and booked once."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from example_project.expenses.models import BankTransfer, Expense
from example_project.expenses.workflows import expense_claim
from tests.faults.takeover import all_ended, killed, take_over
from tests.invariants import check_all
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import StageRun, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

# The bank has executed the transfer when it is asked for the third time. The second finish of a stage lets the payment
# wait for the bank, the third is that of the booking.
CASES = [
    (points.COMPLETE_AFTER, 2),
    (points.POLL_CHECKED, 1),
    (points.POLL_IN_TX, 3),
    (points.COMPLETE_IN_TX, 3),
]


def claim_of(amount: str) -> tuple[WorkflowRun, Expense]:
    """Return the run of a new expense that is to be paid now."""
    fields = {"owner": "Ada", "receipt": f"Total {amount}", "pay_at": timezone.now()}
    expense = Expense.objects.create(amount=Decimal(amount), **fields)
    with registry_override(expense_claim):
        run = create_run(expense_claim, subject=expense, config={"pay": {"ask_every_seconds": 0.1}})
    return run, expense


def assert_paid_once(run: WorkflowRun, expense: Expense) -> None:
    check_all()
    run.refresh_from_db()
    expense.refresh_from_db()
    assert (run.status, run.error) == ("COMPLETED", None)
    assert (expense.status, expense.paid_out) == ("paid", expense.amount)
    assert expense.reference == f"T-{BankTransfer.objects.get().pk}"


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_a_killed_worker_costs_a_waiting_run_nothing_but_time(point: str, hit: int) -> None:
    run, expense = claim_of("42.00")

    killed(f"{point}:{hit}")
    take_over(all_ended)

    assert StageRun.objects.get(stage="approve").status == "SKIPPED"
    assert_paid_once(run, expense)
