"""Kernels for tests."""

from __future__ import annotations

from collections.abc import Sequence

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.kernel import Kernel, create_kernel
from workflow_engine.kernel.ports import BlobStore, Clock, JobTransport, Limits, Message
from workflow_engine.kernel.subscribers import Subscriber, Subscribers

from .clock import FakeClock


class SilentTransport(JobTransport):
    """Remembers what was pushed and tells nobody."""

    def __init__(self) -> None:
        self.pushed: list[Message] = []

    def push(self, messages: Sequence[Message]) -> None:
        self.pushed += messages

    def pop(self, wait: float) -> list[Message]:
        return []

    def ack(self, message: Message) -> None:
        """Nothing is kept."""

    def depth(self, queue: str) -> int:
        return len([message for message in self.pushed if message.queue == queue])

    def epoch(self) -> str:
        return "silent"


def create_test_kernel(
    *,
    using: str = "default",
    clock: Clock | None = None,
    transport: JobTransport | None = None,
    blobs: BlobStore | None = None,
    limits: Limits | None = None,
    subscribers: Sequence[Subscriber] = (),
) -> Kernel:
    """Return a kernel with a frozen clock, blobs in memory and a transport that stays silent.

    ``subscribers`` hear of events when ``FlushOutbox`` is dispatched; plugins of the project do not.

    ``with use_kernel(kernel):`` (``workflow_engine.bootstrap``) lets the public functions use it.
    """
    return create_kernel(
        using=using,
        clock=clock or FakeClock(),
        transport=transport or SilentTransport(),
        blobs=blobs or InMemoryBlobStore(),
        limits=limits,
        subscribers=Subscribers(lambda known=tuple(subscribers): known),  # type: ignore[misc]
    )
