"""Expenses in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from example_project.expenses.models import Expense
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.django_db
GIVEN = {
    "owner": "Ada",
    "amount": "42.00",
    "receipt": "Total 42.00",
    "pay_at_0": "2030-01-04",
    "pay_at_1": "12:00:00",
}


@pytest.fixture
def added(admin_client: Any) -> Expense:
    """Return an expense that somebody has added in the admin."""
    response = admin_client.post(reverse("admin:expenses_expense_add"), GIVEN)
    assert response.status_code == 302, response.content
    return Expense.objects.get()


def test_adding_an_expense_starts_its_run(added: Expense) -> None:
    run = WorkflowRun.objects.for_subject(added).get()

    assert (run.workflow, run.status) == ("expense-claim", "PENDING")
    assert run.annotations.get(key="trigger.source").value == "admin"


def test_the_page_of_an_expense_links_to_its_run_and_changes_nothing(added: Expense, admin_client: Any) -> None:
    run = WorkflowRun.objects.for_subject(added).get()

    page = admin_client.get(reverse("admin:expenses_expense_change", args=[added.pk])).content.decode()

    assert reverse("admin:workflow_engine_workflowrun_change", args=[run.pk]) in page
    assert 'name="_save"' not in page


def test_the_list_leads_to_the_runs_of_one_expense(added: Expense, admin_client: Any) -> None:
    other = Expense.objects.create(owner="Bob", amount=1, receipt="")
    run = WorkflowRun.objects.for_subject(added).get()
    page = admin_client.get(reverse("admin:expenses_expense_changelist")).content.decode()
    links = [part.split('"')[0].replace("&amp;", "&") for part in page.split('href="')]
    runs = {link.rpartition("=")[2]: link for link in links if "subject_id" in link}

    assert set(runs) == {str(added.pk), str(other.pk)}
    assert str(run.pk) in admin_client.get(runs[str(added.pk)]).content.decode()
    assert str(run.pk) not in admin_client.get(runs[str(other.pk)]).content.decode()


def test_the_books_of_the_bank_can_be_seen(admin_client: Any) -> None:
    assert admin_client.get(reverse("admin:expenses_banktransfer_changelist")).status_code == 200
