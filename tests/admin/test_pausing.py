from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import ATTACK, list_url, page_url
from workflow_engine import pause_queue, pause_run, pause_workflow
from workflow_engine.models import OutboxEvent, Pause, WorkflowRun

PAUSE_WORK = "admin:workflow_engine_pause_pause"


def url(name: str, run_id: uuid.UUID) -> str:
    return reverse(f"admin:workflow_engine_workflowrun_{name}", args=[run_id])


def action(name: str, *rows: Any) -> dict[str, Any]:
    return {"action": name, "_selected_action": [str(row.pk) for row in rows], "index": 0}


def test_selected_runs_are_paused_and_resumed_in_the_name_of_the_user(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run, kept, ended = make_run(drain=False), make_run(drain=False), make_run()
    client = staff("view_workflowrun", "pause_workflowrun")

    answer = client.post(list_url("workflowrun"), action("pause", run, ended), follow=True)

    run.refresh_from_db()
    kept.refresh_from_db()
    assert (run.paused_at is not None, kept.paused_at) == (True, None)
    assert "Paused 1 run." in answer.content.decode()
    event = OutboxEvent.objects.get(run=run, type="run.paused")
    assert event.payload["actor"] == "staff-view_workflowrun-pause_workflowrun"
    answer = client.post(list_url("workflowrun"), action("resume", run, kept), follow=True)
    assert "Resumed 1 run." in answer.content.decode()
    run.refresh_from_db()
    assert run.paused_at is None


def test_the_buttons_pause_with_a_reason_and_resume(make_run: Callable[..., Any], staff: Callable[..., Client]) -> None:
    run = make_run(drain=False)
    client = staff("view_workflowrun", "pause_workflowrun")
    assert url("pause", run.pk) in client.get(page_url(run)).content.decode()

    page = client.post(url("pause", run.pk), {"reason": f"a\x00udit {ATTACK}"}, follow=True).content.decode()

    assert "audit &lt;script&gt;" in page
    assert ATTACK not in page
    assert "by staff-view_workflowrun-pause_workflowrun" in page
    assert url("resume", run.pk) in page
    assert url("pause", run.pk) not in page
    page = client.post(url("resume", run.pk), follow=True).content.decode()
    assert "The run goes on." in page
    assert "Nothing to resume" in client.post(url("resume", run.pk), follow=True).content.decode()


def test_a_run_that_has_ended_offers_no_pause(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run()

    page = chief.post(url("pause", run.pk), follow=True).content.decode()

    assert "Nothing to pause" in page
    assert url("pause", run.pk) not in page


def test_workflows_and_queues_are_paused_by_the_list_of_pauses(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    make_run(drain=False)
    client = staff("view_pause", "pause_workflowrun")

    for scope, name in (("workflow", "notes"), ("queue", "mail")):
        client.post(reverse(PAUSE_WORK), {"scope": scope, "name": name, "reason": "a <b>bad</b> day"})

    page = client.get(list_url("pause")).content.decode()
    assert "a &lt;b&gt;bad&lt;/b&gt; day" in page
    assert set(Pause.objects.values_list("scope", "name")) == {("workflow", "notes"), ("queue", "mail")}
    answer = client.post(list_url("pause"), action("resume", *Pause.objects.all()), follow=True)
    assert "Resumed: " in answer.content.decode()
    assert not Pause.objects.exists()


@pytest.mark.parametrize(
    ("scope", "name", "text"),
    [("workflow", "unknown", "No workflow"), ("run", "x", "scope: must be"), ("queue", "", "name: must be")],
)
def test_what_cannot_be_paused_is_refused_in_words(
    make_run: Callable[..., Any], chief: Client, scope: str, name: str, text: str
) -> None:
    answer = chief.post(reverse(PAUSE_WORK), {"scope": scope, "name": name}, follow=True)

    assert text in answer.content.decode()
    assert not Pause.objects.exists()


def test_a_workflow_that_is_paused_already_is_left_as_it_is(make_run: Callable[..., Any], chief: Client) -> None:
    make_run(drain=False)
    pause_workflow("notes", reason="first")

    answer = chief.post(reverse(PAUSE_WORK), {"scope": "workflow", "name": "notes", "reason": "second"}, follow=True)

    assert "Paused already: notes" in answer.content.decode()
    assert Pause.objects.get().reason == "first"


def test_users_who_may_only_look_are_offered_nothing_and_forged_requests_are_refused(
    make_run: Callable[..., Any], staff: Callable[..., Client]
) -> None:
    run = make_run(drain=False)
    pause_queue("mail")
    client = staff("view_workflowrun", "view_pause")

    pages = "".join(
        client.get(address).content.decode() for address in (list_url("workflowrun"), page_url(run), list_url("pause"))
    )
    statuses = [
        client.post(list_url("workflowrun"), action("pause", run)).status_code,
        client.post(url("pause", run.pk)).status_code,
        client.post(url("resume", run.pk)).status_code,
        client.post(list_url("pause"), action("resume", Pause.objects.get())).status_code,
        client.post(reverse(PAUSE_WORK), {"scope": "queue", "name": "other"}).status_code,
    ]

    run.refresh_from_db()
    assert (statuses, run.paused_at, Pause.objects.count()) == ([403] * 5, None, 1)
    assert "Pause selected runs" not in pages
    assert url("pause", run.pk) not in pages
    assert reverse(PAUSE_WORK) not in pages


def test_pausing_needs_the_token_against_forged_requests_and_is_no_get(make_run: Callable[..., Any]) -> None:
    run = make_run(drain=False)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("chief"))

    addresses = [url("pause", run.pk), url("resume", run.pk), reverse(PAUSE_WORK)]

    assert [client.post(address).status_code for address in addresses] == [403] * 3
    assert [client.get(address).status_code for address in addresses] == [405] * 3
    assert WorkflowRun.objects.get(pk=run.pk).paused_at is None


def test_pausing_a_run_that_does_not_exist_is_404(make_run: Callable[..., Any], chief: Client) -> None:
    assert chief.post(url("pause", uuid.uuid4())).status_code == 404


def test_a_paused_run_says_so_in_the_list(make_run: Callable[..., Any], chief: Client) -> None:
    run = make_run(drain=False)
    pause_run(run)

    assert "wfe-paused" in chief.get(list_url("workflowrun")).content.decode()
