"""Webhooks in the admin: made and changed by a form, tested, given new secrets that are shown once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import ATTACK, list_url, page_url
from tests.webhooks.sending import URL, Sent, endpoint, webhook_kernel
from workflow_engine.bootstrap import use_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import TryWebhook
from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.kernel.webhooks.targets import TargetRules
from workflow_engine.models import WebhookDelivery, WebhookEndpoint
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
Staff = Callable[..., Client]
ADD = "/admin/workflow_engine/webhookendpoint/add/"


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def kernel(sent: Sent, clock: FakeClock) -> Iterator[Kernel]:
    with use_kernel(webhook_kernel(sent, clock=clock, webhook_targets=TargetRules())) as kernel:
        yield kernel


@pytest.fixture
def hook(kernel: Kernel) -> WebhookEndpoint:
    return endpoint(kernel, description="Shop", events=("run.*",))


def action_url(name: str, hook: WebhookEndpoint) -> str:
    return reverse(f"admin:workflow_engine_webhookendpoint_{name}", args=[hook.pk])


def filled(**fields: Any) -> dict[str, Any]:
    return {"url": URL, "description": "Shop", "events": "run.*", "workflows": "", "active": "on", **fields}


def test_a_new_one_shows_its_secret_once(kernel: Kernel, chief: Client) -> None:
    answer = chief.post(ADD, filled(events="run.completed\r\nrun.failed", workflows="orders, returns"))

    hook = WebhookEndpoint.objects.get()
    assert (hook.url, hook.events, hook.workflows) == (URL, ["run.completed", "run.failed"], ["orders", "returns"])
    assert hook.created_by == "chief"
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert hook.secret in answer.content.decode()
    pages = [chief.get(address) for address in (page_url(hook), list_url("webhookendpoint"), "/admin/")]
    assert all(hook.secret not in page.content.decode() for page in pages)
    history = LogEntry.objects.get()
    assert hook.secret not in f"{history.object_repr} {history.change_message} {history}"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"url": ""}, "This field is required."),
        ({"url": "http://example.com/"}, "Must begin with https://"),
        ({"url": "https://127.0.0.1/"}, "Must not be at 127.0.0.1, which is loopback"),
        ({"events": "run.complete"}, "is no type of event. Did you mean"),
        ({"workflows": "x" * 300}, "Must be a list of up to 100 ids of workflows"),
    ],
)
def test_a_wrong_one_is_shown_again_with_what_is_wrong(
    kernel: Kernel, chief: Client, fields: dict[str, str], problem: str
) -> None:
    answer = chief.post(ADD, filled(**fields))

    assert problem in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_one_is_changed(hook: WebhookEndpoint, chief: Client) -> None:
    answer = chief.post(page_url(hook), filled(events="", description="Other"), follow=True)

    assert answer.status_code == 200
    changed = WebhookEndpoint.objects.get()
    assert (changed.events, changed.description, changed.url, changed.active) == ([], "Other", URL, True)
    assert changed.secret == hook.secret
    assert LogEntry.objects.get().get_change_message() == "Changed Description and Events."


def test_one_is_switched_off_and_on_by_its_form(hook: WebhookEndpoint, chief: Client) -> None:
    off = filled()
    del off["active"]

    chief.post(page_url(hook), off)
    hook.refresh_from_db()
    assert (hook.active, hook.disabled_reason) == (False, "by chief")
    assert "Disabled since" in chief.get(page_url(hook)).content.decode()
    chief.post(page_url(hook), filled())

    hook.refresh_from_db()
    assert (hook.active, hook.disabled_at, hook.disabled_reason) == (True, None, "")


@pytest.mark.parametrize(
    ("action", "active", "text"), [("disable", False, "Disabled 1"), ("enable", True, "Enabled 0")]
)
def test_chosen_ones_are_switched(hook: WebhookEndpoint, staff: Staff, action: str, active: bool, text: str) -> None:
    data = {"action": action, "_selected_action": [hook.pk], "index": 0}
    client = staff("view_webhookendpoint", "change_webhookendpoint")

    answer = client.post(list_url("webhookendpoint"), data, follow=True)

    assert f"{text} webhook" in answer.content.decode()
    assert WebhookEndpoint.objects.get().active is active


def test_a_new_secret_is_shown_once(hook: WebhookEndpoint, chief: Client) -> None:
    answer = chief.post(action_url("rotate", hook))

    changed = WebhookEndpoint.objects.get()
    assert changed.previous_secret == hook.secret != changed.secret
    page = answer.content.decode()
    assert changed.secret in page
    assert hook.secret not in page
    assert "no-store" in answer["Cache-Control"]
    again = chief.get(page_url(hook)).content.decode()
    assert changed.secret not in again and hook.secret not in again
    assert LogEntry.objects.get().get_change_message() == "The secret was rotated."


def test_a_test_is_sent_at_once_and_says_what_came_of_it(hook: WebhookEndpoint, chief: Client, sent: Sent) -> None:
    fine = chief.post(action_url("test", hook), follow=True).content.decode()
    sent.answer = lambda headers: WebhookAnswer(status=500, body=ATTACK.encode())
    failed = chief.post(action_url("test", hook), follow=True).content.decode()

    assert "The test was delivered: 200 in 0 ms. The answer: thanks" in fine
    assert "The test was not delivered (0 ms). 500: only 2xx counts as delivered." in failed
    assert "webhook.test" in fine
    assert ATTACK not in failed
    assert WebhookDelivery.objects.count() == 2


def test_the_last_requests_are_on_its_page_for_who_may_see_them(
    hook: WebhookEndpoint, kernel: Kernel, staff: Staff
) -> None:
    for _ in range(25):
        kernel.dispatch(TryWebhook(endpoint_id=hook.pk))

    may = staff("view_webhookendpoint", "view_webhookdelivery")
    page = may.get(page_url(hook)).content.decode()
    assert page.count("webhook.test") == 20
    found = may.get(list_url("webhookdelivery"), {"q": str(hook.pk)}).content.decode()
    assert "25 webhook deliveries" in found
    assert "webhook.test" not in staff("view_webhookendpoint").get(page_url(hook)).content.decode()


def test_one_is_deleted_with_its_log_unasked(
    hook: WebhookEndpoint, kernel: Kernel, staff: Staff, django_capture_on_commit_callbacks: Any
) -> None:
    kernel.dispatch(TryWebhook(endpoint_id=hook.pk))
    client = staff("view_webhookendpoint", "delete_webhookendpoint")
    address = reverse("admin:workflow_engine_webhookendpoint_delete", args=[hook.pk])
    assert client.get(address).status_code == 200

    with django_capture_on_commit_callbacks(execute=True):
        client.post(address, {"post": "yes"})

    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_chosen_ones_are_deleted(hook: WebhookEndpoint, kernel: Kernel, chief: Client) -> None:
    endpoint(kernel)
    chosen = list(WebhookEndpoint.objects.values_list("pk", flat=True))

    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    chief.post(list_url("webhookendpoint"), data)

    assert not WebhookEndpoint.objects.exists()


def test_who_may_only_look_changes_nothing(hook: WebhookEndpoint, staff: Staff, sent: Sent) -> None:
    client = staff("view_webhookendpoint", "view_webhookdelivery")

    page = client.get(page_url(hook)).content.decode()
    statuses = [
        client.get(ADD).status_code,
        client.post(ADD, filled()).status_code,
        client.post(page_url(hook), filled(url=f"{URL}/x")).status_code,
        client.post(action_url("test", hook)).status_code,
        client.post(action_url("rotate", hook)).status_code,
        client.post(reverse("admin:workflow_engine_webhookendpoint_delete", args=[hook.pk]), {"post": "y"}).status_code,
    ]

    assert "Send a test" not in page and "New secret" not in page
    assert statuses == [403] * 6
    unchanged = WebhookEndpoint.objects.get()
    assert (unchanged.url, unchanged.secret) == (URL, hook.secret)
    assert not sent.targets


def test_who_may_only_add_or_delete_does_not_test_and_rotate(hook: WebhookEndpoint, staff: Staff) -> None:
    client = staff("view_webhookendpoint", "add_webhookendpoint", "delete_webhookendpoint")

    assert client.post(action_url("test", hook)).status_code == 403
    assert client.post(action_url("rotate", hook)).status_code == 403


def test_buttons_are_pressed_not_visited(hook: WebhookEndpoint, chief: Client) -> None:
    assert chief.get(action_url("test", hook)).status_code == 405
    assert chief.get(action_url("rotate", hook)).status_code == 405


def test_what_is_not_there_is_not_found(hook: WebhookEndpoint, chief: Client) -> None:
    hook.pk = uuid.uuid4()

    assert chief.post(action_url("test", hook)).status_code == 404
    assert chief.post(action_url("rotate", hook)).status_code == 404
