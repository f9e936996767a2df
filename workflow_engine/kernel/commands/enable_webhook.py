"""``webhook.enable``: a webhook hears of events again, from now on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction

from workflow_engine.errors import WebhookNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class EnableWebhookResult:
    # False: it was active.
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EnableWebhook(Command[EnableWebhookResult]):
    """Let a webhook hear of what happens from now on, and forget its failures. Raises ``WebhookNotFound``."""

    type = "webhook.enable"
    endpoint_id: uuid.UUID


@handles(EnableWebhook)
def enable_webhook(command: EnableWebhook, ports: Ports, causation_id: uuid.UUID) -> EnableWebhookResult:
    def step(work: UnitOfWork) -> bool:
        rows = WebhookEndpoint.objects.using(ports.using).filter(pk=command.endpoint_id)
        changed = rows.enable(ports.clock.db_now())
        if not changed and not rows.exists():
            raise WebhookNotFound(command.endpoint_id)
        transaction.on_commit(ports.subscribers.forget, using=ports.using, robust=True)
        return changed or work.repeated

    return EnableWebhookResult(changed=transact(ports, causation_id, step))
