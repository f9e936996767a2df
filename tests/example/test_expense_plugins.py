"""The mail that the owner of an expense gets when its run has ended."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail

from example_project.expenses.models import Expense
from example_project.expenses.plugins import tell_owner
from example_project.expenses.workflows import expense_claim, submit
from workflow_engine import RunEvent
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, WorkflowRun

pytestmark = pytest.mark.django_db


def event_of(row: OutboxEvent) -> RunEvent:
    return RunEvent(
        f"{row.run_id}:{row.sequence}",
        row.run_id,
        "expense-claim",
        row.sequence,
        0,
        row.type,
        row.payload,
        uuid.uuid4(),
        datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_the_owner_is_told_why_a_claim_failed(known: Any, host: InlineHost) -> None:
    known(expense_claim)
    expense = Expense.objects.create(owner="Ada", amount=Decimal("7.00"), receipt="Total 9.00")
    run = submit(expense, source="test")
    host.drain(run.pk)

    tell_owner(event_of(OutboxEvent.objects.get(run=run, type="run.failed")))

    (sent,) = mail.outbox
    assert sent.subject == "Your 7.00: refused: The receipt says 9.00, the claim 7.00."
    assert sent.to == ["ada@example.com"]


def test_a_run_about_nothing_tells_nobody(known: Any, kernel: Any) -> None:
    known(expense_claim)
    from workflow_engine import create_run

    run: WorkflowRun = create_run(expense_claim)

    tell_owner(event_of(OutboxEvent.objects.get(run=run)))

    assert mail.outbox == []
