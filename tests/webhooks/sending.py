"""Kernels that send webhooks, and the endpoints of tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import SystemClock
from workflow_engine.definitions import RunEvent
from workflow_engine.kernel import Kernel, create_kernel
from workflow_engine.kernel.commands import CreateWebhook
from workflow_engine.kernel.ports import Clock, Limits, WebhookAnswer, WebhookSender
from workflow_engine.kernel.subscribers import Subscribers
from workflow_engine.kernel.webhooks.targets import Target, TargetRules
from workflow_engine.models import WebhookEndpoint
from workflow_engine.sinks.webhook_requests import Requests
from workflow_engine.sinks.webhooks import WebhookSubscribers
from workflow_engine.testing import SilentTransport

# Of this computer, for real receivers.
LOCAL = TargetRules(allow_http=True, allow_private=True, ports=())
URL = "https://hooks.example.com/in"


@dataclass
class Sent:
    """A sender that sends nothing: it answers what it was told to, and keeps what it was given."""

    answer: Callable[[dict[str, str]], WebhookAnswer] = lambda headers: WebhookAnswer(status=200, body=b"thanks")
    targets: list[Target] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def send(self, target: Target, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        self.targets.append(target), self.headers.append(dict(headers)), self.bodies.append(body)
        return self.answer(dict(headers))

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers in self.headers]


def webhook_kernel(
    sender: WebhookSender | None = None,
    *,
    clock: Clock | None = None,
    timeout: float = 5,
    kept: float = 0,
    **limits: Any,
) -> Kernel:
    """Return a kernel whose subscribers are the webhooks of the table; the database's clock unless one is given."""
    webhooks = WebhookSubscribers(kept=kept)
    kernel = create_kernel(
        clock=clock or SystemClock(),
        transport=SilentTransport(),
        blobs=InMemoryBlobStore(),
        limits=Limits(**{"webhook_targets": LOCAL, "webhook_timeout": timeout, **limits}),
        subscribers=Subscribers(webhooks, forget=webhooks.forget),
        sender=sender or Requests(LOCAL, timeout=timeout),
    )
    webhooks.deliver_by(kernel)
    return kernel


def endpoint(kernel: Kernel, url: str = URL, **given: Any) -> WebhookEndpoint:
    made = kernel.dispatch(CreateWebhook(url=url, **given))
    kernel.ports.subscribers.forget()
    return WebhookEndpoint.objects.get(pk=made.endpoint_id)


def run_id_of(message_id: str) -> uuid.UUID:
    return uuid.UUID(message_id.partition(":")[0])


def sequence_of(message_id: str) -> int:
    return int(message_id.partition(":")[2])


def message_id(event: RunEvent) -> str:
    return event.id
