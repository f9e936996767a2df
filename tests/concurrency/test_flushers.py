"""Several processes deliver at the same moment: nothing is doubled, nothing comes out of order, nothing is left."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.outbox.hearing import CHAIN, EVENTS_OF_CHAIN, new_run
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import RunEvent
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FlushOutbox
from workflow_engine.kernel.ports import Limits
from workflow_engine.kernel.subscribers import Subscriber, Subscribers
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent
from workflow_engine.testing import CollectingEventSink

pytestmark = pytest.mark.django_db(transaction=True)


def kernel_with(*sinks: CollectingEventSink) -> Kernel:
    """A kernel with the database's own clock."""
    ports = get_kernel().ports
    known = tuple(Subscriber(f"sink-{number}", sink, timeout=5) for number, sink in enumerate(sinks))
    return Kernel(
        type(ports)(
            using=ports.using,
            clock=ports.clock,
            transport=ports.transport,
            blobs=ports.blobs,
            registry=ports.registry,
            limits=Limits(max_event_tries=100),
            subscribers=Subscribers(lambda: known),
        )
    )


def flush_until_empty(kernel: Kernel) -> int:
    delivered = 0
    while OutboxEvent.objects.filter(pending=True).exists() or EventCursor.objects.exists():
        delivered += kernel.dispatch(FlushOutbox(max=7)).delivered
    return delivered


@pytest.mark.parametrize("flushers", [2, 5])
def test_live_flushers_double_nothing_and_keep_every_order(known: Any, flushers: int) -> None:
    known(CHAIN)
    sinks = CollectingEventSink(), CollectingEventSink()
    kernel = kernel_with(*sinks)
    with use_kernel(kernel):
        runs = [new_run() for _ in range(25)]
        process_available_jobs(max_jobs=1000)

        delivered = together([lambda: flush_until_empty(kernel)] * flushers)

    assert sum(delivered) == 2 * 25 * EVENTS_OF_CHAIN
    for sink in sinks:
        heard = defaultdict(list)
        for event in sink.events:
            heard[event.run_id].append(event.sequence)
        assert heard == {run.pk: list(range(1, EVENTS_OF_CHAIN + 1)) for run in runs}


def test_while_runs_go_on_and_deliveries_fail_at_random_nothing_is_lost(known: Any) -> None:
    known(CHAIN)
    dice, lock = random.Random(7), threading.Lock()

    def fails(event: RunEvent) -> None:
        with lock:
            lost = dice.random() < 0.05
        if lost:
            raise ConnectionError("lost")

    sink = CollectingEventSink(fails)
    kernel = kernel_with(sink)
    working = threading.Event()

    def work() -> None:
        with use_kernel(kernel):
            for _ in range(4):
                for _ in range(5):
                    new_run()
                process_available_jobs(max_jobs=1000)
        working.set()

    def flush() -> None:
        while not working.is_set():
            kernel.dispatch(FlushOutbox(max=5))
        flush_until_empty(kernel)

    together([work, flush, flush, flush])

    heard = defaultdict(list)
    for event in sink.events:
        heard[event.run_id].append(event.sequence)
    assert len(heard) == 20
    assert set(map(tuple, heard.values())) == {tuple(range(1, EVENTS_OF_CHAIN + 1))}
    assert not DeadLetter.objects.exists()
