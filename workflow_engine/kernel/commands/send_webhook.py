"""``webhook.send``: an event is sent to a webhook, once; whoever delivers events decides whether it is again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.definitions.plugins import RunEvent
from workflow_engine.errors import DeliveryRefused
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.webhooks.forgetting import forget_deliveries
from workflow_engine.kernel.webhooks.sending import (
    LONGEST_REST_SECONDS,
    WebhookMessage,
    find_endpoint,
    note,
    outcome_of,
    post,
)
from workflow_engine.models.webhooks import PREFIX
from workflow_engine.redaction import redact_event

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class SendWebhookResult:
    status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SendWebhook(Command[SendWebhookResult]):
    """Send an event. Must not be called inside a transaction.

    Raises:
        DeliveryRefused: the webhook did not take it, rests, is disabled, or gone.
    """

    type = "webhook.send"
    endpoint_id: uuid.UUID
    event: RunEvent


@handles(SendWebhook)
def send_webhook(command: SendWebhook, ports: Ports, causation_id: uuid.UUID) -> SendWebhookResult:
    endpoint, event = find_endpoint(ports, command.endpoint_id), command.event
    if endpoint is None or not endpoint.active:
        # Somebody who did not know that yet has written down what it should hear of.
        forget_deliveries(ports, causation_id, f"{PREFIX}{command.endpoint_id}")
        raise DeliveryRefused("The webhook is disabled, or gone.", rest=LONGEST_REST_SECONDS, counts=False)
    if endpoint.rest_until is not None and endpoint.rest_until > endpoint.read_at:
        left = (endpoint.rest_until - endpoint.read_at).total_seconds()
        raise DeliveryRefused("The webhook rests after failures.", rest=left, counts=False)
    message = message_of(event)
    outcome = outcome_of(post(ports, endpoint, message), endpoint.failures, endpoint.read_at)
    note(ports, causation_id, endpoint, message, outcome)
    if not outcome.delivered:
        raise DeliveryRefused(outcome.error, after=outcome.after, rest=outcome.rest)
    return SendWebhookResult(status=outcome.status or 0)


def message_of(event: RunEvent) -> WebhookMessage:
    """Return an event as it is sent; values under secret keys are masked, as in the API."""
    return WebhookMessage(
        id=event.id,
        type=event.type,
        occurred_at=event.occurred_at,
        data={
            "run_id": str(event.run_id),
            "workflow_id": event.workflow_id,
            "sequence": event.sequence,
            "generation": event.generation,
            "payload": redact_event(event.payload),
            "causation_id": str(event.causation_id),
            "is_replay": event.is_replay,
        },
        run_id=event.run_id,
        attempt=event.attempt,
    )
