from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import cancel_url, list_url, page_url
from workflow_engine.models import OutboxEvent
from workflow_engine.statuses import RunStatus


def action(*runs: Any) -> dict[str, Any]:
    return {"action": "cancel", "_selected_action": [str(run.pk) for run in runs], "index": 0}


def test_selected_runs_are_cancelled_in_the_name_of_the_user(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run, kept = make_run(drain=False), make_run(drain=False)
    client = staff("view_workflowrun", "cancel_workflowrun")

    answer = client.post(list_url("workflowrun"), action(run), follow=True)

    run.refresh_from_db()
    kept.refresh_from_db()
    assert (run.status, kept.status) == (RunStatus.CANCELLED, RunStatus.PENDING)
    assert "Cancelled 1 run." in answer.content.decode()
    event = OutboxEvent.objects.get(run=run, type="run.cancelled")
    assert event.payload["actor"] == "staff-view_workflowrun-cancel_workflowrun"


def test_runs_that_have_ended_are_left_as_they_were(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run()

    answer = chief.post(list_url("workflowrun"), action(run), follow=True)

    run.refresh_from_db()
    assert run.status == RunStatus.COMPLETED
    assert "Cancelled 0 runs." in answer.content.decode()


def test_users_who_may_only_look_are_offered_no_way_to_cancel(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun")

    pages = client.get(list_url("workflowrun")).content.decode() + client.get(page_url(run)).content.decode()

    assert "Cancel selected runs" not in pages
    assert cancel_url(run) not in pages


def test_a_forged_request_of_a_user_who_may_only_look_is_refused(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun")

    statuses = [
        client.post(list_url("workflowrun"), action(run)).status_code,
        client.post(cancel_url(run)).status_code,
        client.post(page_url(run), {"status": "CANCELLED"}).status_code,
    ]

    run.refresh_from_db()
    assert (statuses, run.status) == ([403, 403, 403], RunStatus.PENDING)


def test_the_permission_to_cancel_without_the_one_to_look_is_not_enough(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run(drain=False)

    assert staff("cancel_workflowrun").post(cancel_url(run)).status_code == 403


def test_the_button_cancels_with_a_reason(make_run: Callable[..., Any], staff: Callable[..., Client]) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun", "cancel_workflowrun")
    page = client.get(page_url(run)).content.decode()

    answer = client.post(cancel_url(run), {"reason": "ordered\x00 twice"}, follow=True)

    run.refresh_from_db()
    assert cancel_url(run) in page
    assert (run.status, run.data.cancel_reason) == (RunStatus.CANCELLED, "ordered twice")
    assert cancel_url(run) not in answer.content.decode()


def test_cancelling_needs_the_token_against_forged_requests(make_run: Callable[..., Any]) -> None:
    run = make_run(drain=False)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("chief"))

    assert client.post(cancel_url(run)).status_code == 403
    assert client.post(list_url("workflowrun"), action(run)).status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.PENDING


def test_cancelling_is_no_get(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run(drain=False)

    assert chief.get(cancel_url(run)).status_code == 405


def test_cancelling_a_run_that_does_not_exist_is_404(make_run: Callable[..., Any], chief: Client) -> None:
    address = reverse("admin:workflow_engine_workflowrun_cancel", args=[uuid.uuid4()])

    assert chief.post(address).status_code == 404


def test_somebody_who_is_not_logged_in_is_asked_to_do_so(make_run: Callable[..., Any]) -> None:
    run = make_run(drain=False)

    answer = Client().post(cancel_url(run))

    run.refresh_from_db()
    assert (answer.status_code, run.status) == (302, RunStatus.PENDING)
