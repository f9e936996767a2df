"""``webhook.sweep``: what webhooks leave behind that are disabled or gone."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.webhooks.forgetting import forget_idle, forget_old_secrets

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepWebhooksResult:
    # Deliveries and dead letters that were for nobody any more.
    forgotten: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepWebhooks(Command[SweepWebhooksResult]):
    """Drop what webhooks that are disabled or gone had still to hear of, and secrets whose time is over.

    Any number of callers at a time.
    """

    type = "webhook.sweep"


@handles(SweepWebhooks)
def sweep_webhooks(command: SweepWebhooks, ports: Ports, causation_id: uuid.UUID) -> SweepWebhooksResult:
    forget_old_secrets(ports)
    return SweepWebhooksResult(forgotten=forget_idle(ports, causation_id))
