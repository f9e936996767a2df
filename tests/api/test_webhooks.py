"""``webhooks/`` and what is below it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import BASE, JSONClient, pointers, problem_of
from tests.webhooks.sending import URL, Sent, endpoint, webhook_kernel
from workflow_engine.bootstrap import use_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.kernel.webhooks.targets import TargetRules
from workflow_engine.models import WebhookDelivery, WebhookEndpoint
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
SHOWN = {
    "webhook_id", "url", "description", "events", "workflows", "active", "disabled_at", "disabled_reason", "failures",
    "failing_since", "previous_secret_until", "created_by", "created_at", "updated_at",
}  # fmt: skip


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def kernel(sent: Sent, clock: FakeClock) -> Iterator[Kernel]:
    with use_kernel(webhook_kernel(sent, clock=clock, webhook_targets=TargetRules())) as kernel:
        yield kernel


@pytest.fixture
def hook(kernel: Kernel) -> WebhookEndpoint:
    return endpoint(kernel)


def patch(api: JSONClient, hook: WebhookEndpoint, body: Any) -> Any:
    return api.send(f"webhooks/{hook.pk}/", body, method="PATCH")


def test_a_new_one_shows_its_secret_this_once(api: JSONClient, kernel: Kernel) -> None:
    body = {"url": URL, "description": "Shop", "events": ["run.*"], "workflows": ["orders"]}

    answer = api.send("webhooks/", body)
    again = api.get(answer["Location"])

    assert answer.status_code == 201
    made = answer.json()
    hook = WebhookEndpoint.objects.get()
    assert made.pop("secret") == hook.secret
    assert set(made) == SHOWN
    assert made | body == made
    assert (made["webhook_id"], made["created_by"], made["active"]) == (str(hook.pk), "all", True)
    assert again.json() == made
    assert hook.secret not in again.content.decode() + api.read("webhooks/").content.decode()


def test_they_are_listed_newest_first_and_page_by_page(api: JSONClient, kernel: Kernel) -> None:
    hooks = [endpoint(kernel) for _ in range(3)]

    first = api.read("webhooks/", {"limit": 2}).json()
    second = api.get(first["next"]).json()

    listed = [item["webhook_id"] for item in first["results"] + second["results"]]
    assert listed == [str(hook.pk) for hook in reversed(hooks)]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"/url": "missing"}),
        ({"url": 7}, {"/url": "string_type"}),
        ({"url": "http://example.com"}, {"/url": "invalid"}),
        ({"url": "https://192.168.0.1/"}, {"/url": "invalid"}),
        ({"url": "https://127.0.0.1/", "events": ["run.gone"]}, {"/url": "invalid", "/events": "invalid"}),
        ({"url": URL, "events": "run.created"}, {"/events": "list_type"}),
        ({"url": URL, "workflows": ["\x00"]}, {"/workflows": "invalid"}),
        ({"url": URL, "secret": "whsec_mine"}, {"/secret": "extra_forbidden"}),
    ],
)
def test_a_wrong_one_is_refused(api: JSONClient, kernel: Kernel, body: Any, wrong: dict[str, str]) -> None:
    answer = api.send("webhooks/", body)

    assert answer.status_code == 422
    assert pointers(answer) == wrong
    assert not WebhookEndpoint.objects.exists()


def test_one_is_changed_and_switched_off_and_on(api: JSONClient, hook: WebhookEndpoint) -> None:
    off = patch(api, hook, {"events": ["run.failed"], "active": False, "reason": "too loud"}).json()
    on = patch(api, hook, {"active": True}).json()

    assert (off["events"], off["active"], off["disabled_reason"]) == (["run.failed"], False, "too loud")
    assert off["disabled_at"] is not None
    assert (on["events"], on["active"], on["disabled_reason"], on["disabled_at"]) == (["run.failed"], True, "", None)


def test_who_gives_no_reason_is_the_reason(api: JSONClient, hook: WebhookEndpoint) -> None:
    assert patch(api, hook, {"active": False}).json()["disabled_reason"] == "by all"


def test_of_a_change_that_is_wrong_nothing_is_done(api: JSONClient, hook: WebhookEndpoint) -> None:
    answer = patch(api, hook, {"url": "https://10.0.0.1/", "active": False})

    assert pointers(answer) == {"/url": "invalid"}
    hook.refresh_from_db()
    assert (hook.url, hook.active) == (URL, True)


def test_one_is_deleted(api: JSONClient, hook: WebhookEndpoint) -> None:
    answer = api.delete(f"{BASE}webhooks/{hook.pk}/")

    assert (answer.status_code, answer.content) == (204, b"")
    assert not WebhookEndpoint.objects.exists()


def test_a_rotation_shows_the_new_secret_this_once(api: JSONClient, hook: WebhookEndpoint) -> None:
    answer = api.send(f"webhooks/{hook.pk}/rotate/", {"overlap_seconds": 60})

    made = answer.json()
    changed = WebhookEndpoint.objects.get()
    assert made["secret"] == changed.secret != hook.secret
    assert made["previous_secret_until"] is not None
    assert hook.secret not in answer.content.decode()


@pytest.mark.parametrize("seconds", [-1, 30 * 24 * 3600 + 1, "1h"])
def test_an_overlap_has_bounds(api: JSONClient, hook: WebhookEndpoint, seconds: Any) -> None:
    answer = api.send(f"webhooks/{hook.pk}/rotate/", {"overlap_seconds": seconds})

    assert set(pointers(answer)) == {"/overlap_seconds"}
    assert WebhookEndpoint.objects.get().secret == hook.secret


def test_a_test_says_what_came_of_it(api: JSONClient, hook: WebhookEndpoint, sent: Sent) -> None:
    fine = api.send(f"webhooks/{hook.pk}/test/", {}).json()
    sent.answer = lambda headers: WebhookAnswer(error="ConnectionRefusedError: nobody", duration_ms=3)
    failed = api.send(f"webhooks/{hook.pk}/test/", {}).json()

    assert fine == {"delivered": True, "status": 200, "duration_ms": 0, "error": "", "response": "thanks"}
    error = "ConnectionRefusedError: nobody"
    assert failed == {"delivered": False, "status": None, "duration_ms": 3, "error": error, "response": ""}


def test_deliveries_are_listed_newest_first_and_page_by_page(
    api: JSONClient, hook: WebhookEndpoint, kernel: Kernel
) -> None:
    other = endpoint(kernel)
    for tested in (hook, hook, other, hook):
        api.send(f"webhooks/{tested.pk}/test/", {})

    first = api.read(f"webhooks/{hook.pk}/deliveries/", {"limit": 2}).json()
    second = api.get(first["next"]).json()

    ids = [item["id"] for item in first["results"] + second["results"]]
    assert ids == list(WebhookDelivery.objects.filter(endpoint=hook).order_by("-id").values_list("id", flat=True))
    assert second["next"] is None
    shown = first["results"][0]
    assert shown.pop("event_id").startswith("test:")
    assert shown.pop("sent_at").endswith("Z")
    assert shown == {
        "id": ids[0],
        "type": "webhook.test",
        "run_id": None,
        "attempt": 1,
        "delivered": True,
        "status": 200,
        "duration_ms": 0,
        "error": "",
        "response": "thanks",
        "url": URL,
    }


@pytest.mark.parametrize("query", [{"before": "x"}, {"before": "0"}, {"limit": "0"}, {"limit": "201"}])
def test_a_wrong_query_is_refused(api: JSONClient, hook: WebhookEndpoint, query: dict[str, str]) -> None:
    assert problem_of(api.read(f"webhooks/{hook.pk}/deliveries/", query))["status"] == 400


@pytest.mark.parametrize(
    ("method", "place"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "test/"), ("POST", "rotate/"), ("GET", "deliveries/")],
)
def test_what_is_not_there_is_404(api: JSONClient, kernel: Kernel, method: str, place: str) -> None:
    answer = api.send(f"webhooks/{uuid.uuid4()}/{place}", {}, method=method)

    assert problem_of(answer)["code"] == "WEBHOOK_NOT_FOUND"
    assert answer.status_code == 404
