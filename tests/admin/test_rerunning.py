from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import list_url, page_url
from tests.invariants import check_all, events
from tests.reruns import Journey, fresh
from workflow_engine import create_run, rerun_from
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun


@pytest.fixture
def journey(known: Any, kernel: Any) -> Journey:
    journey = Journey()
    known(journey.workflow)
    return journey


@pytest.fixture
def run(journey: Journey, host: InlineHost) -> WorkflowRun:
    """Return a run that FAILED in ``right``."""
    journey.broken = {"right"}
    run = create_run("journey", {"value": 1})
    host.drain()
    journey.broken.clear()
    return fresh(run)


def rerun_url(run: Any) -> str:
    return reverse("admin:workflow_engine_workflowrun_rerun", args=[getattr(run, "pk", run)])


def fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the form, but the token against forged requests."""
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    found.pop("csrfmiddlewaretoken", None)
    return found


def test_the_way_leads_from_the_run_over_the_preview_to_a_run_that_goes_on(
    run: WorkflowRun, staff: Callable[..., Client], host: InlineHost
) -> None:
    client = staff("view_workflowrun", "rerun_workflowrun")

    page = client.get(page_url(run)).content.decode()
    options = re.findall(r'<option value="([\w-]+)"( selected)?>', page)
    preview = client.get(rerun_url(run), {"stage": "right"}).content.decode()
    answer = client.post(rerun_url(run), fields(preview), follow=True)

    # Not "last": a stage before it has failed.
    assert options == [("first", ""), ("left", ""), ("right", " selected")]
    assert rerun_url(run) in page
    kept, again = preview.split("<h2>")[1:]
    assert re.findall(r'<th scope="row">(\w+)</th>', kept) == ["first"]
    assert ">Completed</span>" in kept
    assert re.findall(r'<th scope="row">(\w+)</th>', again) == ["left", "right", "last"]
    assert "The run goes on from right, in generation 1." in answer.content.decode()
    host.drain()
    assert (fresh(run).status, fresh(run).generation) == ("COMPLETED", 1)
    assert run.events.get(type="run.rerun").payload["actor"] == "staff-view_workflowrun-rerun_workflowrun"
    check_all()


def test_the_preview_changes_nothing(run: WorkflowRun, chief: Client) -> None:
    assert chief.get(rerun_url(run), {"stage": "first"}).status_code == 200
    assert chief.head(rerun_url(run), {"stage": "first"}).status_code == 200

    assert (fresh(run).status, events(run).count("run.rerun")) == ("FAILED", 0)


def test_a_button_that_is_pressed_twice_reruns_once(run: WorkflowRun, chief: Client, host: InlineHost) -> None:
    form = fields(chief.get(rerun_url(run), {"stage": "left"}).content.decode())

    chief.post(rerun_url(run), form)
    host.drain()
    chief.post(rerun_url(run), form)

    assert (fresh(run).status, fresh(run).generation) == ("COMPLETED", 1)


def test_what_is_refused_is_said_on_the_page_of_the_run(run: WorkflowRun, chief: Client) -> None:
    for stage_id, text in (
        ("last", "stage 'right' before it is FAILED"),
        ("<b>middle", "has no stage '<b>middle'"),
        ("", "has no stage ''"),
    ):
        for answer in (
            chief.get(rerun_url(run), {"stage": stage_id}, follow=True),
            chief.post(rerun_url(run), {"stage": stage_id}, follow=True),
        ):
            assert text in html.unescape(answer.content.decode())
            assert "<b>middle" not in answer.content.decode()

    assert fresh(run).generation == 0


def test_a_run_that_goes_on_is_offered_no_rerun(journey: Journey, chief: Client) -> None:
    run = create_run("journey", {"value": 1})

    assert rerun_url(run) not in chief.get(page_url(run)).content.decode()
    assert "is PENDING" in chief.post(rerun_url(run), {"stage": "first"}, follow=True).content.decode()


@pytest.mark.parametrize("permissions", [("view_workflowrun", "cancel_workflowrun"), ("rerun_workflowrun",)])
def test_who_may_not_is_offered_nothing_and_refused(
    run: WorkflowRun, staff: Callable[..., Client], permissions: tuple[str, ...]
) -> None:
    client = staff(*permissions)

    assert rerun_url(run) not in client.get(page_url(run)).content.decode()
    assert client.get(rerun_url(run), {"stage": "left"}).status_code == 403
    assert client.post(rerun_url(run), {"stage": "left"}).status_code == 403
    assert fresh(run).generation == 0


def test_a_rerun_needs_the_token_against_forged_requests(run: WorkflowRun) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("chief"))

    assert client.post(rerun_url(run), {"stage": "left"}).status_code == 403
    assert fresh(run).generation == 0


def test_a_run_that_does_not_exist_is_404(journey: Journey, chief: Client) -> None:
    assert chief.get(rerun_url(uuid.uuid4()), {"stage": "first"}).status_code == 404
    assert chief.post(rerun_url(uuid.uuid4()), {"stage": "first"}).status_code == 404


def test_pages_show_the_rows_that_count(run: WorkflowRun, chief: Client, host: InlineHost) -> None:
    rerun_from(run, "left")
    host.drain()

    page = chief.get(page_url(run)).content.decode()
    stages = chief.get(list_url("stagerun")).content.decode()
    progress = chief.get(list_url("workflowrun")).content.decode()

    table = page.split("<h2>Stages</h2>")[1].split("</table>")[0]
    assert re.findall(r'id="stage-(\w+)"', table) == ["first", "left", "right", "last"]
    assert re.findall(r">(\w+\.txt)</a>", page) == ["first.txt", "left.txt", "right.txt", "last.txt"]
    assert "generation 1" in page
    assert "<dd>400</dd>" in page
    assert stages.count("superseded by a rerun") == 2
    assert "4/4" in progress
