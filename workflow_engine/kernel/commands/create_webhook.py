"""``webhook.create``: an address is to hear of events."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from django.db import transaction

from workflow_engine.ids import uuid7
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.webhooks.fields import check_fields
from workflow_engine.kernel.webhooks.signing import new_secret
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateWebhookResult:
    endpoint_id: uuid.UUID
    # Signs what is sent. It is never shown again.
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateWebhook(Command[CreateWebhookResult]):
    """Let an address hear of events, from now on; other processes know of it after a few seconds.

    Args:
        events: types of events, ``"run.*"`` for all of a kind; empty: all.
        workflows: only runs of these, by id; empty: of all.
        active: False: it hears of nothing until it is enabled.

    Raises:
        InvalidInput: every field that is wrong is listed.
    """

    type = "webhook.create"
    url: str
    description: str = ""
    events: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    active: bool = True
    actor: str = ""


@handles(CreateWebhook)
def create_webhook(command: CreateWebhook, ports: Ports, causation_id: uuid.UUID) -> CreateWebhookResult:
    check_fields(
        ports.limits.webhook_targets,
        {
            "url": command.url,
            "description": command.description,
            "events": command.events,
            "workflows": command.workflows,
        },
        new=True,
    )
    # Chosen here, so that a second try of the transaction makes no second one.
    endpoint_id, secret = uuid7(), new_secret()

    def step(work: UnitOfWork) -> None:
        rows, now = WebhookEndpoint.objects.using(ports.using), ports.clock.db_now()
        if work.repeated and rows.filter(pk=endpoint_id).exists():
            return
        rows.create(
            pk=endpoint_id,
            url=command.url,
            description=command.description,
            events=list(command.events),
            workflows=list(command.workflows),
            active=command.active,
            secret=secret,
            disabled_at=None if command.active else now,
            created_by=scrub(command.actor)[:150],
            created_at=now,
            updated_at=now,
        )
        transaction.on_commit(ports.subscribers.forget, using=ports.using, robust=True)

    transact(ports, causation_id, step)
    return CreateWebhookResult(endpoint_id=endpoint_id, secret=secret)
