"""``webhook.change``: another address, description or filter."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction

from workflow_engine.errors import WebhookNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import transact
from workflow_engine.kernel.webhooks.fields import check_fields
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeWebhookResult:
    endpoint_id: uuid.UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeWebhook(Command[ChangeWebhookResult]):
    """Change what is given; None leaves a field as it is. The next request goes to the new address.

    Raises:
        WebhookNotFound: there is none of this id.
        InvalidInput: every field that is wrong is listed; nothing is changed.
    """

    type = "webhook.change"
    endpoint_id: uuid.UUID
    url: str | None = None
    description: str | None = None
    events: tuple[str, ...] | None = None
    workflows: tuple[str, ...] | None = None


@handles(ChangeWebhook)
def change_webhook(command: ChangeWebhook, ports: Ports, causation_id: uuid.UUID) -> ChangeWebhookResult:
    given = {
        "url": command.url,
        "description": command.description,
        "events": command.events,
        "workflows": command.workflows,
    }
    check_fields(ports.limits.webhook_targets, given)
    changes = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value is not None
    }

    def step(_: object) -> None:
        rows = WebhookEndpoint.objects.using(ports.using).filter(pk=command.endpoint_id)
        if not rows.update(**changes, updated_at=ports.clock.db_now()):
            raise WebhookNotFound(command.endpoint_id)
        transaction.on_commit(ports.subscribers.forget, using=ports.using, robust=True)

    transact(ports, causation_id, step)
    return ChangeWebhookResult(endpoint_id=command.endpoint_id)
