"""The project's webhooks as subscribers: read from their table now and then, never for every event."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connections

from workflow_engine.definitions.plugins import RunEvent, matching
from workflow_engine.errors import InvalidDefinition
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import SendWebhook
from workflow_engine.kernel.subscribers import Subscriber
from workflow_engine.models import WebhookEndpoint
from workflow_engine.models.webhooks import PREFIX

# After so long every process knows of a webhook that was made, changed, disabled or deleted by another.
KEPT_SECONDS = 3.0
# And what was read in a transaction is read again after this.
INSIDE_SECONDS = 1.0
# Id, events, workflows.
Facts = tuple[uuid.UUID, tuple[str, ...], tuple[str, ...]]
# What a delivery takes beyond the request: reading the endpoint, writing the log, asking for the name's address.
SPARE_SECONDS = 2.0


class WebhookSubscribers:
    """The active webhooks; the same tuple until one of them changes in what it wants to hear of. Thread-safe.

    What else changes (address, secrets) is read for each request.
    """

    def __init__(self, *, kept: float = KEPT_SECONDS) -> None:
        self._kept = kept
        self._kernel: Kernel | None = None
        self._lock = threading.Lock()
        self._until, self._changes = 0.0, 0
        self._known: tuple[Subscriber, ...] = ()
        self._facts: tuple[Facts, ...] | None = None

    def deliver_by(self, kernel: Kernel) -> None:
        """Read and send by this kernel from now on; before that there are no webhooks."""
        self._kernel = kernel

    def forget(self) -> None:
        """Read again next time; a reading under way may not have seen what was changed."""
        with self._lock:
            self._changes += 1
            self._until = 0.0

    def __call__(self) -> tuple[Subscriber, ...]:
        kernel, now = self._kernel, time.monotonic()
        if kernel is None or now < self._until:
            return self._known
        changes = self._changes
        rows = WebhookEndpoint.objects.using(kernel.ports.using).active().order_by("id")
        facts = tuple(
            (pk, tuple(events), tuple(workflows))
            for pk, events, workflows in rows.values_list("id", "events", "workflows")
        )
        is_inside = connections[kernel.ports.using].in_atomic_block
        with self._lock:
            if is_inside:
                # What a transaction sees may be old, or never be committed: it takes away nothing, and not for long.
                there = {row[0] for row in self._facts or ()}
                facts = (*(self._facts or ()), *(row for row in facts if row[0] not in there))
            if facts != self._facts:
                self._facts = facts
                self._known = tuple(_subscriber(kernel, *row) for row in facts)
            if changes == self._changes:
                self._until = now + (min(self._kept, INSIDE_SECONDS) if is_inside else self._kept)
            return self._known


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """Sends events to one endpoint; raises ``DeliveryRefused``."""

    kernel: Kernel
    endpoint_id: uuid.UUID

    def emit(self, event: RunEvent) -> None:
        self.kernel.dispatch(SendWebhook(endpoint_id=self.endpoint_id, event=event))


def _subscriber(
    kernel: Kernel, endpoint_id: uuid.UUID, events: tuple[str, ...], workflows: tuple[str, ...]
) -> Subscriber:
    limits = kernel.ports.limits
    return Subscriber(
        f"{PREFIX}{endpoint_id}",
        WebhookSink(kernel, endpoint_id),
        types=_types(events) if events else None,
        workflows=frozenset(workflows) if workflows else None,
        timeout=limits.webhook_timeout + SPARE_SECONDS,
        max_tries=limits.webhook_max_attempts,
        shares_threads=True,
    )


def _types(patterns: Iterable[str]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for pattern in patterns:
        try:
            found |= matching([pattern], "a webhook")
        except InvalidDefinition:
            # A type of another version: there are no such events here.
            continue
    return found
