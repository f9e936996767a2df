"""The example's workflows, whose workers die everywhere: nothing is paid, written or sent twice."""

from __future__ import annotations

from decimal import Decimal

import pytest

from example_project.expenses.models import Expense
from example_project.expenses.schemas import Verdict
from example_project.expenses.workflows import expense_claim
from workflow_engine.testing import crash_test

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def test_an_expense_is_paid_once_wherever_the_worker_dies() -> None:
    expense = Expense.objects.create(owner="Ada", amount=Decimal("120.00"), receipt="Hotel\nTotal 120.00")

    report = crash_test(
        expense_claim,
        subject=expense,
        answers={"manager": Verdict(outcome="approved", by="bob")},
        effects=lambda: {"paid out": float(Expense.objects.get().paid_out)},
    )

    report.check()
    assert report.status == "COMPLETED"
    assert report.effects == {"expenses.BankTransfer": 1, "paid out": 120}
    assert report.deaths > 40
