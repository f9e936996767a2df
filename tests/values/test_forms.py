"""Hostile texts in the forms of the admin: taken, or sent back with what is wrong; never an error page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import Pause, Schedule, StageRun, WebhookEndpoint, WorkflowRun

from .entries import ANY
from .reading import read_rows, reader
from .texts import texts

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
SCHEDULE = {
    "name": "night", "workflow": "any", "cron": "30 2 * * *", "timezone": "UTC", "input": "1", "overlap": "skip",
    "catch_up": "one",
}  # fmt: skip
WEBHOOK = {"url": "https://example.com/", "description": "", "events": "", "workflows": "", "active": "on"}
# Page -> what is filled in; each field is tried by itself.
FORMS: dict[str, dict[str, str]] = {
    "schedule_add": SCHEDULE,
    "webhookendpoint_add": WEBHOOK,
    "pause_pause": {"scope": "queue", "name": "mail", "reason": ""},
    "workflowrun_pause": {"reason": ""},
    "workflowrun_cancel": {"reason": ""},
    "workflowrun_rerun": {"stage": "ask", "config": "{}"},
    "workflowrun_answer": {"stage_run": "", "wait": "anything", "answer-answer": "1"},
}
CASES = [(page, field) for page, fields in FORMS.items() for field in fields]


@pytest.fixture
def client(known: Any, host: InlineHost) -> Client:
    known(ANY)
    client = Client(raise_request_exception=True)
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.parametrize(("page", "field"), CASES)
def test_a_form_is_taken_or_sent_back(page: str, field: str, client: Client, host: InlineHost) -> None:
    run = create_run(ANY)
    host.drain(run.pk)
    of_run = page.startswith("workflowrun")
    address = reverse(f"admin:workflow_engine_{page}", args=[run.pk] if of_run else [])
    given = {**FORMS[page]}
    if "stage_run" in given:
        given["stage_run"] = str(StageRun.objects.get(run=run).pk)

    for name, text in texts():
        # What is half a letter goes as the bytes that it was made of.
        sent = urlencode({**given, field: text.encode("utf-8", "surrogatepass")})
        answer = client.post(address, sent, content_type="application/x-www-form-urlencoded")
        assert answer.status_code in (200, 302, 404), name

    assert client.get(address).status_code in (200, 302, 405)
    eyes = reader()
    for model in (WorkflowRun, Schedule, WebhookEndpoint, Pause):
        read_rows(eyes, model, most=30, every=5)
