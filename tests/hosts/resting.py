"""Transports that say when a worker rests, and another connection that holds runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from tests.waiting import until
from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.ports import Message
from workflow_engine.models import WorkflowRun
from workflow_engine.transports.database import DatabaseTransport

RESTING = {"TRANSPORT": "tests.hosts.resting.RestingTransport"}
RINGING = {"TRANSPORT": "tests.hosts.resting.RingingTransport", "TICK_SECONDS": 3600}


class RestingTransport(DatabaseTransport):
    """The database transport, which also counts how often a worker began to rest."""

    def __init__(self, using: str = "default") -> None:
        super().__init__(using)
        self.rests = 0

    def pop(self, wait: float) -> list[Message]:
        self.rests += 1
        return super().pop(wait)


class RingingTransport(RestingTransport):
    """One that always rings, like RQ's: nobody polls."""

    @property
    def polls(self) -> bool:
        return False


def until_it_rests(times: int = 1) -> None:
    """Return once the worker has begun to rest ``times`` times more; the look before the last saw what is there now."""
    transport = get_kernel().ports.transport
    assert isinstance(transport, RestingTransport)
    before = transport.rests
    until(lambda: transport.rests >= before + times, f"the worker rests {times} times")


@contextmanager
def holding(*runs: WorkflowRun) -> Iterator[None]:
    """Lock these runs in somebody else's transaction, which is open as long as the block lasts."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(WorkflowRun.objects.select_for_update().filter(pk__in=[run.pk for run in runs]))
            held.set()
            release.wait(60)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        yield
    finally:
        release.set()
        thread.join(30)
