"""Events go to webhooks: what is sent, what is written down, what follows from failures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.outbox.hearing import CHAIN, new_run
from tests.webhooks.sending import URL, Sent, endpoint, webhook_kernel
from workflow_engine import annotate_run, cancel_run
from workflow_engine.bootstrap import use_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    DeleteWebhook,
    DisableWebhook,
    EnableWebhook,
    FlushOutbox,
    FlushOutboxResult,
    Prune,
    ReplayDeadLetters,
    RotateWebhook,
    SweepWebhooks,
    TryWebhook,
)
from workflow_engine.kernel.doctor import examine
from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent, WebhookDelivery, WebhookEndpoint, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


def answers(*statuses: int, **more: Any) -> Callable[[dict[str, str]], WebhookAnswer]:
    """Answer with one status after the other; the last one lasts."""
    left = list(statuses)

    def answer(headers: dict[str, str]) -> WebhookAnswer:
        return WebhookAnswer(status=left.pop(0) if len(left) > 1 else left[0], body=b"says this", **more)

    return answer


class Office:
    """A kernel with a frozen clock, and its sender."""

    def __init__(self, clock: FakeClock, *, tries: int = 3) -> None:
        self.clock, self.sent = clock, Sent()
        self.kernel: Kernel = webhook_kernel(
            self.sent, clock=clock, webhook_max_attempts=tries, webhook_disable_days=5, max_event_tries=2
        )

    def flush(self, seconds: float = 0) -> FlushOutboxResult:
        self.clock.advance(timedelta(seconds=seconds))
        return self.kernel.dispatch(FlushOutbox())

    def flush_for(self, seconds: float) -> None:
        """Flush every second."""
        for _ in range(int(seconds)):
            self.flush(1)


@pytest.fixture
def office(clock: FakeClock, known: Any) -> Iterator[Office]:
    known(CHAIN)
    office = Office(clock)
    with use_kernel(office.kernel):
        yield office


def test_an_event_is_sent_and_that_is_written_down(office: Office) -> None:
    hook = endpoint(office.kernel, f"{URL}?token=hush")
    run = new_run()

    assert office.flush().delivered == 1

    (headers,), (body,) = office.sent.headers, office.sent.bodies
    assert headers["webhook-id"] == f"{run.pk}:1"
    assert headers["webhook-timestamp"] == str(int(office.clock.now().timestamp()))
    assert json.loads(body) == {
        "type": "run.created",
        "timestamp": "2026-01-01T12:00:00Z",
        "data": {
            "run_id": str(run.pk),
            "workflow_id": "chain",
            "sequence": 1,
            "generation": 0,
            "payload": {"workflow_id": "chain"},
            "causation_id": str(OutboxEvent.objects.get().causation_id),
            "is_replay": False,
        },
    }
    delivery = WebhookDelivery.objects.get()
    assert (delivery.endpoint, delivery.event_id, delivery.type) == (hook, f"{run.pk}:1", "run.created")
    assert (delivery.run_id, delivery.attempt, delivery.delivered) == (run.pk, 1, True)
    assert (delivery.status, delivery.error, delivery.response, delivery.url) == (200, "", "thanks", URL)
    assert delivery.sent_at == office.clock.now()


def test_values_under_secret_keys_are_masked(office: Office) -> None:
    endpoint(office.kernel, events=("annotation.created",))
    annotate_run(new_run(), {"login": {"password": "hush", "name": "Jane"}}, emit_event=True)

    office.flush()

    (body,) = office.sent.bodies
    assert b"hush" not in body
    assert json.loads(body)["data"]["payload"]["value"]["name"] == "Jane"


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        ({}, ["run.created", "run.cancelled"]),
        ({"events": ("run.cancelled",)}, ["run.cancelled"]),
        ({"events": ("run.*",)}, ["run.created", "run.cancelled"]),
        ({"events": ("stage.*",)}, []),
        ({"workflows": ("chain",)}, ["run.created", "run.cancelled"]),
        ({"workflows": ("other",)}, []),
    ],
)
def test_a_webhook_hears_of_what_it_wants(office: Office, filters: Any, heard: list[str]) -> None:

    endpoint(office.kernel, **filters)
    cancel_run(new_run())

    office.flush()

    assert [json.loads(body)["type"] for body in office.sent.bodies] == heard
    assert not OutboxEvent.objects.filter(pending=True).exists()
    assert not EventCursor.objects.exists()


def test_it_begins_with_what_happens_from_now_on(office: Office) -> None:
    run = new_run()
    endpoint(office.kernel)
    annotate_run(run, {"k": 1}, emit_event=True)

    office.flush()

    assert office.sent.ids == [f"{run.pk}:2"]


def test_what_fails_is_sent_again_under_the_same_id_and_then_is_a_dead_letter(office: Office) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(500)
    run = new_run()

    office.flush_for(10)

    assert office.sent.ids == [f"{run.pk}:1"] * 3
    assert list(hook.deliveries.values_list("attempt", "status", "error")) == [
        (number, 500, "500: only 2xx counts as delivered.") for number in (1, 2, 3)
    ]
    letter = DeadLetter.objects.get()
    assert (letter.subscriber, letter.tries) == (hook.subscriber, 3)
    assert "500: only 2xx" in letter.error
    assert not EventCursor.objects.exists()


def test_a_dead_letter_is_sent_once_more_when_that_is_asked_for(office: Office) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(500, 500, 500, 200)
    new_run()
    office.flush_for(10)

    office.kernel.dispatch(ReplayDeadLetters())
    assert office.flush().replayed == 1

    assert json.loads(office.sent.bodies[-1])["data"]["is_replay"] is True
    assert list(hook.deliveries.values_list("attempt", flat=True)) == [1, 2, 3, 4]
    assert not DeadLetter.objects.exists()


def test_410_disables_it_and_nothing_waits_for_it_any_more(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(410)
    runs = [new_run() for _ in range(3)]
    assert len(runs) == 3

    with caplog.at_level(logging.WARNING):
        office.flush()
    office.kernel.dispatch(SweepWebhooks())

    hook.refresh_from_db()
    assert not hook.active
    assert "410 Gone" in hook.disabled_reason
    assert hook.disabled_at == office.clock.now()
    assert len(office.sent.ids) == 1
    assert not EventCursor.objects.exists()
    assert "webhook disabled" in caplog.text
    new_run()
    assert office.flush_for(5) is None
    assert len(office.sent.ids) == 1
    office.clock.advance(DAY)
    # No worker has taken the runs of this test; nothing else is wrong.
    assert [one.code for one in examine(office.kernel.ports).findings] == ["run.not_claimed"]


def test_one_that_fails_for_days_is_disabled_and_one_success_begins_anew(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    hook = endpoint(office.kernel, events=("run.created",))
    office.sent.answer = answers(500, 500, 500, 200, 500)
    new_run()
    office.flush_for(10)
    office.clock.advance(4 * DAY)
    new_run()
    office.flush()
    hook.refresh_from_db()
    assert (hook.failures, hook.failing_since) == (0, None)

    new_run()
    office.flush()
    office.clock.advance(4 * DAY)
    office.flush()
    hook.refresh_from_db()
    assert (hook.active, hook.failures) == (True, 2)
    office.clock.advance(1 * DAY)
    with caplog.at_level(logging.WARNING):
        office.flush()

    hook.refresh_from_db()
    assert not hook.active
    assert "failed for 5 days" in hook.disabled_reason
    assert "500: only 2xx" in hook.disabled_reason
    assert str(hook.pk) in caplog.text


def test_an_enabled_one_begins_as_if_it_had_never_failed(office: Office) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(410, 500, 200)
    new_run()
    office.flush()

    assert office.kernel.dispatch(EnableWebhook(endpoint_id=hook.pk)).changed
    assert not office.kernel.dispatch(EnableWebhook(endpoint_id=hook.pk)).changed
    hook.refresh_from_db()
    assert (hook.active, hook.failures, hook.failing_since) == (True, 0, None)
    assert (hook.disabled_at, hook.disabled_reason) == (None, "")
    later = new_run()
    office.flush_for(3)

    assert office.sent.ids[1:] == [f"{later.pk}:1"] * 2


def test_what_a_disabled_one_should_have_heard_of_is_dropped(office: Office) -> None:
    hook, other = endpoint(office.kernel), endpoint(office.kernel)
    office.sent.answer = answers(500)
    new_run()
    office.flush()
    assert EventCursor.objects.count() == 2

    assert office.kernel.dispatch(DisableWebhook(endpoint_id=hook.pk, reason="too loud")).changed

    assert [cursor.subscriber for cursor in EventCursor.objects.all()] == [other.subscriber]
    hook.refresh_from_db()
    assert (hook.active, hook.disabled_reason) == (False, "too loud")


def test_a_deleted_one_leaves_nothing(office: Office) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(500)
    runs = [new_run()]
    office.flush_for(10)
    runs.append(new_run())
    office.flush()
    assert DeadLetter.objects.exists() and EventCursor.objects.exists() and WebhookDelivery.objects.exists()

    office.kernel.dispatch(DeleteWebhook(endpoint_id=hook.pk))

    for model in (DeadLetter, EventCursor, WebhookDelivery, WebhookEndpoint):
        assert not model.objects.exists(), model


def test_a_process_that_knows_it_still_sends_nothing_and_leaves_nothing(office: Office) -> None:
    # Another process has read the webhooks a moment before one is deleted and one is disabled.
    gone, off, on = (endpoint(office.kernel) for _ in range(3))
    late = webhook_kernel(office.sent, clock=office.clock, kept=3600)
    assert len(late.ports.subscribers.all()) == 3
    office.kernel.dispatch(DeleteWebhook(endpoint_id=gone.pk))
    office.kernel.dispatch(DisableWebhook(endpoint_id=off.pk))
    with use_kernel(late):
        new_run()

    made = late.dispatch(FlushOutbox())

    assert (made.delivered, made.failed) == (1, 0)
    assert {delivery.endpoint_id for delivery in WebhookDelivery.objects.all()} == {on.pk}
    assert not EventCursor.objects.exists()


def test_what_is_written_down_for_one_that_is_disabled_or_gone_is_swept_away(office: Office) -> None:
    gone, off = endpoint(office.kernel), endpoint(office.kernel)
    late = webhook_kernel(office.sent, clock=office.clock, kept=3600)
    assert len(late.ports.subscribers.all()) == 2
    office.kernel.dispatch(DeleteWebhook(endpoint_id=gone.pk))
    office.kernel.dispatch(DisableWebhook(endpoint_id=off.pk))
    with use_kernel(late):
        new_run()
    late.dispatch(FlushOutbox(subscriber=""))
    assert {cursor.subscriber for cursor in EventCursor.objects.all()} == {gone.subscriber, off.subscriber}

    office.clock.advance(DAY)
    findings = examine(office.kernel.ports).findings
    swept = office.kernel.dispatch(SweepWebhooks())

    assert [one.code for one in findings] == ["run.not_claimed"]
    assert swept.forgotten == 2
    assert not EventCursor.objects.exists()


def test_what_only_a_deleted_one_wanted_to_hear_of_is_handed_on_to_nobody(office: Office) -> None:
    hook = endpoint(office.kernel)
    new_run()
    office.kernel.dispatch(DeleteWebhook(endpoint_id=hook.pk))
    assert OutboxEvent.objects.filter(pending=True).exists()

    office.flush()

    assert not OutboxEvent.objects.filter(pending=True).exists()
    assert not EventCursor.objects.exists()


def test_dead_letters_of_a_disabled_one_wait_for_nobody(office: Office) -> None:
    hook = endpoint(office.kernel)
    office.sent.answer = answers(500)
    new_run()
    office.flush_for(10)
    office.kernel.dispatch(DisableWebhook(endpoint_id=hook.pk))
    assert office.kernel.dispatch(ReplayDeadLetters()).replayed == 1

    office.kernel.dispatch(SweepWebhooks())

    assert DeadLetter.objects.get().replay_at is None


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7), ("0", 1), ("999999", 3600), ("Thu, 01 Jan 2026 12:00:30 GMT", 30)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_within_bounds(office: Office, asked: str, seconds: int, status: int) -> None:
    endpoint(office.kernel)
    office.sent.answer = answers(status, retry_after=asked)
    new_run()
    office.flush()
    # Another run's event is not sent before either.
    new_run()

    office.flush(0.5)
    assert len(office.sent.ids) == 1
    if seconds > 1:
        office.flush(seconds - 1)
        assert len(office.sent.ids) == 1
    office.flush(1.7)
    assert len(office.sent.ids) == 2


@pytest.mark.parametrize(
    ("status", "asked"),
    [(500, "3600"), (429, "soon"), (503, ""), (503, "Mon, 01 Jan 2024 00:00:00 +99999999999999999999")],
)
def test_otherwise_what_fails_is_tried_again_after_a_second(office: Office, status: int, asked: str) -> None:
    endpoint(office.kernel)
    office.sent.answer = answers(status, retry_after=asked)
    new_run()
    office.flush()

    office.flush(1.3)

    assert len(office.sent.ids) == 2


def test_one_that_fails_again_and_again_rests_and_spends_no_tries(office: Office) -> None:
    office = Office(office.clock, tries=8)
    hook = endpoint(office.kernel)
    office.sent.answer = answers(500)
    for _ in range(20):
        new_run()

    first = office.flush()

    assert len(office.sent.ids) == 5
    assert (first.failed, first.rest) == (5, 1)
    assert sorted(EventCursor.objects.values_list("tries", flat=True)) == [0] * 15 + [1] * 5
    office.flush_for(8)
    assert len(office.sent.ids) < 12
    hook.refresh_from_db()
    assert hook.rest_until is not None
    office.sent.answer = answers(200)
    office.flush_for(120)
    assert len(WebhookDelivery.objects.filter(delivered=True)) == 20
    assert not DeadLetter.objects.exists()


def test_one_that_does_not_answer_in_time_rests_at_once(office: Office) -> None:
    endpoint(office.kernel)
    office.sent.answer = lambda headers: WebhookAnswer(error="No answer within 5 s.", timed_out=True)
    new_run(), new_run()

    made = office.flush()

    assert (len(office.sent.ids), made.failed, made.rest) == (1, 1, 1)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.error, delivery.response) == (None, "No answer within 5 s.", "")


def test_the_answer_is_kept_up_to_a_thousand_bytes_and_whatever_they_are(office: Office) -> None:
    endpoint(office.kernel)
    office.sent.answer = lambda headers: WebhookAnswer(status=302, body=b"\x00\xff<b>" + b"x" * 5000)
    new_run()

    office.flush()

    delivery = WebhookDelivery.objects.get()
    assert len(delivery.response) == 1000
    assert delivery.response.startswith("��<b>x")
    assert "redirects are not followed" in delivery.error


def test_a_url_that_the_settings_do_not_allow_any_more_is_not_sent_to(office: Office) -> None:
    hook = endpoint(office.kernel)
    WebhookEndpoint.objects.filter(pk=hook.pk).update(url="ftp://example.com/")
    new_run()

    office.flush()

    assert not office.sent.targets
    assert "must begin with" in WebhookDelivery.objects.get().error


def test_a_type_that_this_version_does_not_know_is_heard_of_by_nobody(office: Office) -> None:
    hook = endpoint(office.kernel)
    WebhookEndpoint.objects.filter(pk=hook.pk).update(events=["run.exploded"])
    new_run()

    office.flush()

    assert not office.sent.ids


def test_during_a_rotation_there_are_two_signatures_and_afterwards_one(office: Office) -> None:
    hook = endpoint(office.kernel)
    made = office.kernel.dispatch(RotateWebhook(endpoint_id=hook.pk, overlap=timedelta(hours=1)))
    changed = WebhookEndpoint.objects.get()
    assert (changed.secret, changed.previous_secret) == (made.secret, hook.secret)

    new_run()
    office.flush()
    office.clock.advance(timedelta(hours=1))
    new_run()
    office.flush()
    office.kernel.dispatch(SweepWebhooks())

    signatures = [headers["webhook-signature"].split() for headers in office.sent.headers]
    assert [len(each) for each in signatures] == [2, 1]
    changed.refresh_from_db()
    assert (changed.previous_secret, changed.previous_until) == ("", None)


def test_a_test_is_sent_at_once_and_nothing_follows_from_it(office: Office) -> None:
    hook = endpoint(office.kernel, active=False)
    office.sent.answer = answers(410)

    made = office.kernel.dispatch(TryWebhook(endpoint_id=hook.pk))

    assert (made.delivered, made.status, made.response) == (False, 410, "says this")
    assert json.loads(office.sent.bodies[0])["type"] == "webhook.test"
    delivery = WebhookDelivery.objects.get()
    assert (delivery.type, delivery.run_id, delivery.status) == ("webhook.test", None, 410)
    hook.refresh_from_db()
    assert (hook.failures, hook.disabled_reason) == (0, "")


def test_no_secret_and_no_address_is_in_logs_or_representations(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        hook = endpoint(office.kernel, f"{URL}/unspeakable?key=unspeakable")
        made = office.kernel.dispatch(RotateWebhook(endpoint_id=hook.pk))
        office.sent.answer = answers(500, 410)
        new_run()
        office.flush_for(5)

    hook.refresh_from_db()
    said = "\n".join(str(record.__dict__) for record in caplog.records if record.name.startswith("workflow_engine"))
    said += f"{hook!r} {hook} {made!r} {DeadLetter.objects.all()} {office.kernel.ports!r} {hook.disabled_reason}"
    said += repr(office.kernel.ports.subscribers.all())
    for secret in (hook.secret, hook.previous_secret, "unspeakable"):
        assert secret not in said
    assert "hooks.example.com" in said


def test_idle_webhooks_cost_no_statement_each(office: Office, django_assert_max_num_queries: Any) -> None:
    for _ in range(20):
        endpoint(office.kernel)
    office.flush()

    with django_assert_max_num_queries(8):
        office.flush()


def test_runs_are_pruned_whatever_has_become_of_their_webhooks(office: Office) -> None:

    hook = endpoint(office.kernel)
    office.sent.answer = answers(500)
    cancel_run(new_run())
    office.flush_for(20)
    office.clock.advance(30 * DAY)
    prune = {what: Prune(what=what, older_than=DAY) for what in ("events", "runs", "deliveries")}
    assert office.kernel.dispatch(prune["deliveries"]).deleted == WebhookDelivery.objects.count() + 6
    assert office.kernel.dispatch(prune["events"]).deleted == 0, "dead letters need them"

    office.kernel.dispatch(DeleteWebhook(endpoint_id=hook.pk))

    assert office.kernel.dispatch(prune["events"]).deleted == 2
    assert office.kernel.dispatch(prune["runs"]).deleted == 1
    assert not WorkflowRun.objects.exists()
