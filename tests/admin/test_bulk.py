"""More runs than one request changes: the actions of the list make a bulk operation, whose page says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.admin.conftest import ATTACK, list_url, page_url
from workflow_engine import cancel_runs, pause_run, pause_runs, rerun_runs
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CarryOutBulk
from workflow_engine.models import BulkOperation, WorkflowRun

Make = Callable[..., WorkflowRun]
Staff = Callable[..., Client]
DONE = {"cancel": "CANCELLED", "pause": "PENDING", "resume": "PENDING"}
NEEDED = {"cancel": "cancel_workflowrun", "pause": "pause_workflowrun", "resume": "pause_workflowrun"}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("runs", "pausing"):
        monkeypatch.setattr(f"workflow_engine.admin.{module}.MOST_AT_ONCE", 2)


def across_pages(action: str, run: WorkflowRun) -> dict[str, Any]:
    """Return what the list sends when all runs of all pages are selected."""
    return {"action": action, "_selected_action": [str(run.pk)], "select_across": "1", "index": 0}


@pytest.mark.parametrize("action", DONE)
def test_more_runs_than_one_request_changes_are_changed_in_the_background(
    make_run: Make, staff: Staff, kernel: Kernel, action: str
) -> None:
    runs = [make_run(drain=False) for _ in range(3)]
    ended = make_run()
    if action == "resume":
        for run in runs:
            pause_run(run)
    client = staff("view_workflowrun", NEEDED[action], "view_bulkoperation")

    answer = client.post(list_url("workflowrun"), across_pages(action, runs[0]), follow=True).content.decode()

    operation = BulkOperation.objects.get()
    assert (operation.kind, operation.total, operation.status) == (action, 3, "PENDING")
    assert operation.actor.startswith("staff-view_workflowrun")
    assert "3 runs are changed in the background." in answer
    assert f'<a href="{page_url(operation)}">See how far it is</a>' in answer
    kernel.dispatch(CarryOutBulk())
    rows = WorkflowRun.objects.exclude(pk=ended.pk)
    assert {(run.status, run.paused_at is None) for run in rows} == {(DONE[action], action != "pause")}
    page = client.get(page_url(operation)).content.decode()
    assert "3/3" in page
    assert "wfe-completed" in page


def test_who_may_not_look_at_operations_gets_no_link(make_run: Make, staff: Staff) -> None:
    runs = [make_run(drain=False) for _ in range(3)]
    client = staff("view_workflowrun", "cancel_workflowrun")

    answer = client.post(list_url("workflowrun"), across_pages("cancel", runs[0]), follow=True).content.decode()

    assert "3 runs are changed in the background." in answer
    assert "See how far it is" not in answer
    assert client.get(list_url("bulkoperation")).status_code == 403


def test_a_few_runs_are_changed_at_once(make_run: Make, staff: Staff) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun", "cancel_workflowrun")

    answer = client.post(list_url("workflowrun"), across_pages("cancel", run), follow=True).content.decode()

    assert "Cancelled 1 run." in answer
    assert not BulkOperation.objects.exists()


def test_who_may_not_cancel_makes_no_operation(make_run: Make, staff: Staff) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun", "view_bulkoperation")

    assert client.post(list_url("workflowrun"), across_pages("cancel", run)).status_code == 403
    assert not BulkOperation.objects.exists()


def test_the_page_shows_what_failed_and_links_to_all_of_its_runs(make_run: Make, kernel: Kernel, chief: Client) -> None:
    run = make_run(drain=False)
    operation = rerun_runs([run], "write-down", actor="ada")
    kernel.dispatch(CarryOutBulk())

    page = chief.get(page_url(operation)).content.decode()
    runs = chief.get(list_url("bulktarget"), {"q": str(operation.pk)}).content.decode()

    assert f"Run {run.pk} is PENDING: only a run that is COMPLETED" in page
    assert page_url(run) in page
    assert f"{list_url('bulktarget')}?q={operation.pk}" in page
    assert "1/1" in page
    assert page_url(run) in runs
    assert "Failed" in runs


def test_config_is_for_those_who_may_see_payloads(make_run: Make, staff: Staff) -> None:
    operation = rerun_runs([make_run()], "write-down", config={"write-down": {"text": "private"}})

    pages = [
        staff("view_bulkoperation", *more).get(page_url(operation)).content.decode() for more in ((), ("view_payload",))
    ]

    assert ["private" in page for page in pages] == [False, True]


def test_operations_are_stopped_by_those_who_may_do_such(make_run: Make, staff: Staff) -> None:
    run = make_run(drain=False)
    cancelling, pausing = cancel_runs([run], reason=ATTACK), pause_runs([run])
    chosen = {"action": "stop", "_selected_action": [str(cancelling.pk), str(pausing.pk)], "index": 0}
    client = staff("view_bulkoperation", "pause_workflowrun")

    answer = client.post(list_url("bulkoperation"), chosen, follow=True).content.decode()
    refused = staff("view_bulkoperation").post(list_url("bulkoperation"), chosen)

    assert "Stopped 1 operation." in answer
    assert set(BulkOperation.objects.values_list("kind", "status")) == {("cancel", "PENDING"), ("pause", "CANCELLED")}
    assert refused.status_code == 403
