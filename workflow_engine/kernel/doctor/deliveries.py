"""What a subscriber should have heard of long ago."""

from __future__ import annotations

from collections.abc import Iterator

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import EventCursor, OutboxEvent, WebhookEndpoint
from workflow_engine.models.webhooks import PREFIX

from .findings import Finding, finding
from .moving import LATE, time_of


def events_not_handed_on(ports: Ports) -> Iterator[Finding]:
    rows = OutboxEvent.objects.using(ports.using).to_hand_on().filter(occurred_at__lt=time_of(ports) - LATE)
    for run_id, sequence, event_type in rows.values_list("run_id", "sequence", "type").iterator():
        text = f"Event {sequence} ({event_type}) is for somebody, and was handed on to nobody."
        yield finding("event.not_handed_on", run_id, text=text)


def overdue_deliveries(ports: Ports) -> Iterator[Finding]:
    rows = EventCursor.objects.using(ports.using).filter(due_at__lt=time_of(ports) - LATE).order_by("due_at", "id")
    # What waits for others is swept away soon.
    active = {row.subscriber for row in WebhookEndpoint.objects.using(ports.using).active().only("id")}
    for run_id, subscriber, after in rows.values_list("run_id", "subscriber", "last_sequence").iterator():
        if subscriber.startswith(PREFIX) and subscriber not in active:
            continue
        text = f"{subscriber!r} should have heard of events after {after} and has not."
        yield finding("delivery.overdue", run_id, text=text)
