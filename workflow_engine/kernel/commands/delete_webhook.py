"""``webhook.delete``: a webhook and all that was kept for it are gone."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import WebhookNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.webhooks.forgetting import forget_after_commit
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteWebhookResult:
    endpoint_id: uuid.UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteWebhook(Command[DeleteWebhookResult]):
    """Delete a webhook. Its log, its dead letters and what it had still to hear of go after the commit.

    Raises ``WebhookNotFound``.
    """

    type = "webhook.delete"
    endpoint_id: uuid.UUID


@handles(DeleteWebhook)
def delete_webhook(command: DeleteWebhook, ports: Ports, causation_id: uuid.UUID) -> DeleteWebhookResult:
    def step(work: UnitOfWork) -> None:
        rows = WebhookEndpoint.objects.using(ports.using).filter(pk=command.endpoint_id)
        if not rows._raw_delete(ports.using) and not work.repeated:
            raise WebhookNotFound(command.endpoint_id)
        forget_after_commit(ports, causation_id, gone=command.endpoint_id)

    transact(ports, causation_id, step)
    return DeleteWebhookResult(endpoint_id=command.endpoint_id)
