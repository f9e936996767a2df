"""``webhook.disable``: a webhook hears of nothing until it is enabled."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import WebhookNotFound, as_text
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.webhooks.forgetting import forget_after_commit
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class DisableWebhookResult:
    # False: it was disabled.
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DisableWebhook(Command[DisableWebhookResult]):
    """Send a webhook nothing more; a request under way is not stopped. Raises ``WebhookNotFound``.

    What it had still to hear of is dropped; its dead letters are kept.
    """

    type = "webhook.disable"
    endpoint_id: uuid.UUID
    reason: str = ""


@handles(DisableWebhook)
def disable_webhook(command: DisableWebhook, ports: Ports, causation_id: uuid.UUID) -> DisableWebhookResult:
    def step(work: UnitOfWork) -> bool:
        rows = WebhookEndpoint.objects.using(ports.using).filter(pk=command.endpoint_id)
        changed = rows.disable(ports.clock.db_now(), scrub(as_text(command.reason)))
        if not changed and not rows.exists():
            raise WebhookNotFound(command.endpoint_id)
        forget_after_commit(ports, causation_id)
        return changed or work.repeated

    return DisableWebhookResult(changed=transact(ports, causation_id, step))
