"""What the demo shows of an expense."""

from __future__ import annotations

import re

import pytest

from example_project.expenses.models import Expense
from example_project.expenses.walkthrough import walk_through
from example_project.expenses.workflows import expense_claim
from workflow_engine.testing import registry_override


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_demo_shows_an_expense_from_its_receipt_to_its_booking() -> None:
    lines: list[str] = []

    with registry_override(expense_claim):
        walk_through(lines.append)

    told = [re.sub(r"^\d\d:\d\d:\d\d +", "", line) for line in lines]
    assert [line.split()[:2] for line in told[1:-2]] == [
        ["check", "completed"],
        ["approve", "waits"],
        ["the", "demo"],
        ["approve", "completed"],
        ["pay", "sleeps"],
        ["pay", "has"],
        ["pay", "completed"],
        ["book", "completed"],
    ]
    assert told[-2].startswith("The run is COMPLETED, the expense paid: 240.00, reference T-")
    assert Expense.objects.get().paid_out == Expense.objects.get().amount
