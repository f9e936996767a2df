"""``webhook.try``: one signed request, here and now."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import WebhookNotFound
from workflow_engine.ids import uuid7
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.webhooks.sending import Outcome, WebhookMessage, find_endpoint, note, outcome_of, post

from .base import Command, handles

# What the receiver gets.
TYPE = "webhook.test"


@dataclass(frozen=True, kw_only=True, slots=True)
class TryWebhookResult:
    delivered: bool
    # None: there was no answer.
    status: int | None
    duration_ms: int
    error: str
    # The beginning of the answer's body.
    response: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TryWebhook(Command[TryWebhookResult]):
    """Send an event of the type ``webhook.test``, to a webhook that is disabled too; nothing follows from the answer.

    It takes up to ``WEBHOOK_TIMEOUT`` seconds, and must not be called inside a transaction.

    Raises ``WebhookNotFound``.
    """

    type = "webhook.try"
    endpoint_id: uuid.UUID


@handles(TryWebhook)
def try_webhook(command: TryWebhook, ports: Ports, causation_id: uuid.UUID) -> TryWebhookResult:
    endpoint = find_endpoint(ports, command.endpoint_id)
    if endpoint is None:
        raise WebhookNotFound(command.endpoint_id)
    message = WebhookMessage(
        id=f"test:{uuid7()}",
        type=TYPE,
        occurred_at=endpoint.read_at,
        data={"webhook_id": str(endpoint.pk), "description": endpoint.description},
    )
    answer = post(ports, endpoint, message)
    outcome: Outcome = outcome_of(answer, 0, endpoint.read_at)
    note(ports, causation_id, endpoint, message, outcome)
    return TryWebhookResult(
        delivered=outcome.delivered,
        status=outcome.status,
        duration_ms=outcome.duration_ms,
        error=outcome.error,
        response=outcome.response,
    )
