"""Webhooks are made, changed, switched off and on, and deleted: by commands that refuse what cannot be."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.webhooks.sending import URL, Sent, endpoint, webhook_kernel
from workflow_engine.errors import InvalidInput, WebhookNotFound
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    RotateWebhook,
    TryWebhook,
)
from workflow_engine.kernel.webhooks.targets import TargetRules
from workflow_engine.models import WebhookEndpoint
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def kernel(clock: FakeClock) -> Kernel:
    return webhook_kernel(Sent(), clock=clock, webhook_targets=TargetRules())


def test_a_new_one_is_as_it_was_asked_for(kernel: Kernel, clock: FakeClock) -> None:
    command = CreateWebhook(url=URL, description="Shop", events=("run.*",), workflows=("orders",), actor="jane")

    made = kernel.dispatch(command)

    hook = WebhookEndpoint.objects.get(pk=made.endpoint_id)
    assert (hook.url, hook.description, hook.events, hook.workflows) == (URL, "Shop", ["run.*"], ["orders"])
    assert (hook.active, hook.disabled_at, hook.created_by) == (True, None, "jane")
    assert hook.secret == made.secret
    assert made.secret not in repr(made)
    assert (hook.created_at, hook.updated_at) == (clock.now(), clock.now())
    assert (hook.subscriber, str(hook)) == (f"webhook:{hook.pk}", "Shop")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://example.com/"}, "url: must begin with https"),
    ({"url": "https://10.0.0.1/"}, "url: must not be at 10.0.0.1, which is private"),
    ({"url": 7}, "url: must be text, got int"),
    ({"events": ("run.complete",)}, "events: 'run.complete' is no type of event. Did you mean 'run.completed'"),
    ({"events": ("",)}, "events: must be a list of up to 100 types of events"),
    ({"events": ("run.*",) * 101}, "events: must be a list of up to 100"),
    ({"events": ("run.crea\x00ted",)}, "events: must be types of events"),
    ({"workflows": (7,)}, "workflows: must be a list of up to 100 ids of workflows"),
    ({"workflows": ("\x00",)}, "workflows: must be ids of workflows"),
    ({"description": "x" * 201}, "description: must be text of up to 200 characters"),
    ({"description": "\x00"}, "description: must be text"),
]


@pytest.mark.parametrize(("given", "problem"), WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(kernel: Kernel, given: dict[str, Any], problem: str) -> None:
    hook = endpoint(kernel)

    with pytest.raises(InvalidInput) as created:
        kernel.dispatch(CreateWebhook(**{"url": URL, **given}))
    with pytest.raises(InvalidInput) as changed:
        kernel.dispatch(ChangeWebhook(endpoint_id=hook.pk, **given))

    assert problem in str(created.value)
    assert problem in str(changed.value)
    assert list(WebhookEndpoint.objects.values_list("pk", "url", "events")) == [(hook.pk, URL, [])]


def test_everything_that_is_wrong_is_said_at_once(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput) as refused:
        kernel.dispatch(CreateWebhook(url="x", events=("y",), workflows=("",), description="\x00"))

    assert [error.path for error in refused.value.errors] == ["url", "description", "events", "workflows"]


def test_a_change_leaves_what_is_not_given(kernel: Kernel, clock: FakeClock) -> None:
    hook = endpoint(kernel, events=("run.*",), description="Shop")
    clock.advance(timedelta(hours=1))

    kernel.dispatch(ChangeWebhook(endpoint_id=hook.pk, url=f"{URL}/2", workflows=("orders",)))

    changed = WebhookEndpoint.objects.get()
    assert (changed.url, changed.workflows) == (f"{URL}/2", ["orders"])
    assert (changed.events, changed.description, changed.secret) == (["run.*"], "Shop", hook.secret)
    assert changed.updated_at == clock.now()


def test_a_change_is_known_at_once_where_it_was_made(clock: FakeClock) -> None:
    kernel = webhook_kernel(Sent(), clock=clock, kept=3600)
    subscribers = kernel.ports.subscribers
    assert subscribers.all() == ()

    hook = WebhookEndpoint.objects.get(pk=kernel.dispatch(CreateWebhook(url=URL)).endpoint_id)
    (known,) = subscribers.all()
    assert subscribers.all() is subscribers.all()
    assert known.wants("run.created", "any")
    kernel.dispatch(ChangeWebhook(endpoint_id=hook.pk, events=("run.failed",)))
    assert not subscribers.want("run.created", "any")
    kernel.dispatch(DisableWebhook(endpoint_id=hook.pk))
    assert subscribers.all() == ()
    kernel.dispatch(EnableWebhook(endpoint_id=hook.pk))
    assert subscribers.want("run.failed", "any")
    kernel.dispatch(DeleteWebhook(endpoint_id=hook.pk))
    assert subscribers.all() == ()


def test_the_table_is_not_read_again_and_again(clock: FakeClock, django_assert_num_queries: Any) -> None:
    kernel = webhook_kernel(Sent(), clock=clock, kept=3600)
    endpoint(kernel)

    with django_assert_num_queries(1):
        for _ in range(100):
            assert kernel.ports.subscribers.want("run.created", "any")


def test_a_second_rotation_ends_the_first_secret(kernel: Kernel) -> None:
    hook = endpoint(kernel)

    first = kernel.dispatch(RotateWebhook(endpoint_id=hook.pk))
    second = kernel.dispatch(RotateWebhook(endpoint_id=hook.pk))

    changed = WebhookEndpoint.objects.get()
    assert (changed.secret, changed.previous_secret) == (second.secret, first.secret)


def test_without_an_overlap_the_old_secret_signs_nothing(kernel: Kernel, clock: FakeClock) -> None:
    hook = endpoint(kernel)

    made = kernel.dispatch(RotateWebhook(endpoint_id=hook.pk, overlap=timedelta(0)))

    assert WebhookEndpoint.objects.get().live_secrets(clock.now()) == (made.secret,)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=31)])
def test_an_overlap_has_bounds(kernel: Kernel, overlap: timedelta) -> None:
    hook = endpoint(kernel)

    with pytest.raises(InvalidInput, match="overlap: must be 0 to 30 days"):
        kernel.dispatch(RotateWebhook(endpoint_id=hook.pk, overlap=overlap))

    assert WebhookEndpoint.objects.get().secret == hook.secret


@pytest.mark.parametrize(
    "kind", [ChangeWebhook, DeleteWebhook, DisableWebhook, EnableWebhook, RotateWebhook, TryWebhook]
)
def test_what_is_not_there_is_not_found(kernel: Kernel, kind: Any) -> None:
    unknown = uuid.uuid4()

    with pytest.raises(WebhookNotFound, match=str(unknown)):
        kernel.dispatch(kind(endpoint_id=unknown))
