"""The one door to every write: ``kernel.dispatch(command) -> result``."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TypeVar, cast

from workflow_engine.definitions import registry as global_registry

from .commands import HANDLERS, Command
from .ports import BlobStore, Clock, JobTransport, Limits, Message, NoWebhooks, Ports, Registry, WebhookSender
from .subscribers import Subscribers

R = TypeVar("R")


class Kernel:
    """Runs commands through the ports it was given. It has no timers, threads or state of its own."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports

    def dispatch(self, command: Command[R], *, causation_id: uuid.UUID | None = None) -> R:
        """Run the command; its events carry ``causation_id`` (a fresh one by default).

        Raises:
            TypeError: it is not a command. What else a command raises stands in its docstring.
        """
        try:
            handler = HANDLERS[type(command)]
        except KeyError:
            raise TypeError(f"{command!r} is not a command of the engine.") from None
        return cast(R, handler(command, self.ports, causation_id or uuid.uuid4()))

    def ring(self, messages: Iterable[Message]) -> None:
        self.ports.transport.push(list(messages))


def create_kernel(
    *,
    clock: Clock,
    transport: JobTransport,
    blobs: BlobStore,
    using: str = "default",
    registry: Registry | None = None,
    limits: Limits | None = None,
    subscribers: Subscribers | None = None,
    sender: WebhookSender | None = None,
) -> Kernel:
    """Put a kernel together of the given ports."""
    known: Registry = registry or global_registry
    return Kernel(
        Ports(
            using=using,
            clock=clock,
            transport=transport,
            blobs=blobs,
            registry=known,
            limits=limits or Limits(),
            subscribers=subscribers or Subscribers(),
            sender=sender or NoWebhooks(),
        )
    )
