"""``webhook.rotate``: a new secret, beside which the old one signs for a while."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import F

from workflow_engine.errors import FieldError, InvalidInput, WebhookNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.webhooks.signing import new_secret
from workflow_engine.models import WebhookEndpoint

from .base import Command, handles

LONGEST_OVERLAP = timedelta(days=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class RotateWebhookResult:
    endpoint_id: uuid.UUID
    # It is never shown again.
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class RotateWebhook(Command[RotateWebhookResult]):
    """Give a webhook a new secret. Until ``overlap`` is over requests carry two signatures, one of each.

    An older one that was still valid is not any more.

    Args:
        overlap: up to 30 days; 0: the old secret has leaked, and signs nothing from now on.

    Raises:
        WebhookNotFound: there is none of this id.
        InvalidInput: ``overlap`` is out of bounds.
    """

    type = "webhook.rotate"
    endpoint_id: uuid.UUID
    overlap: timedelta = timedelta(days=1)


@handles(RotateWebhook)
def rotate_webhook(command: RotateWebhook, ports: Ports, causation_id: uuid.UUID) -> RotateWebhookResult:
    if not timedelta(0) <= command.overlap <= LONGEST_OVERLAP:
        problem = f"must be 0 to {LONGEST_OVERLAP.days} days, got {command.overlap}"
        raise InvalidInput("a rotation", [FieldError("overlap", problem)])
    # Chosen here, so that a second try of the transaction does not rotate twice.
    secret = new_secret()

    def step(work: UnitOfWork) -> None:
        rows = WebhookEndpoint.objects.using(ports.using).filter(pk=command.endpoint_id)
        if work.repeated and rows.filter(secret=secret).exists():
            return
        if not rows.exists():
            raise WebhookNotFound(command.endpoint_id)
        now = ports.clock.db_now()
        # Two statements: some databases give a later column of one statement the new value of an earlier one.
        rows.update(previous_secret=F("secret"), previous_until=now + command.overlap, updated_at=now)
        rows.update(secret=secret)

    transact(ports, causation_id, step)
    return RotateWebhookResult(endpoint_id=command.endpoint_id, secret=secret)
