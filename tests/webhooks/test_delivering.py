"""Real flushers, and a real receiver that behaves badly: everything arrives, in order, and nobody waits for others."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.concurrency.threads import together
from tests.outbox.hearing import CHAIN, EVENTS_OF_CHAIN, new_run
from tests.waiting import until
from tests.webhooks.receiver import Received, Receiver, receiving
from tests.webhooks.sending import endpoint, run_id_of, sequence_of, webhook_kernel
from workflow_engine.bootstrap import use_kernel
from workflow_engine.hosts.flusher import Flusher
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.ids import uuid7
from workflow_engine.kernel import Kernel, delivering
from workflow_engine.kernel.commands import Beat, DisableWebhook, FlushOutbox
from workflow_engine.kernel.ports import WorkerFacts
from workflow_engine.kernel.webhooks import sending
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent, WebhookDelivery, WebhookEndpoint, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
BAD = ["500", "503", "404", "302", "redirect", "reset", "nonsense", "endless", "drip", "hang", "drip-headers"]


@contextmanager
def flushing(kernel: Kernel, flushers: int = 1) -> Iterator[list[Flusher]]:
    """Deliver as worker processes do."""
    with ExitStack() as stack:
        made = []
        for _ in range(flushers):
            worker = uuid7()
            facts = WorkerFacts(id=worker, name="w", host="h", pid=1, version="1", slots=1)
            kernel.dispatch(Beat(worker=facts, running={}))
            flusher = Flusher(kernel, worker, 0.2)
            stack.callback(flusher.stop)
            flusher.start()
            made.append(flusher)
        yield made


def nothing_waits() -> bool:
    return not (OutboxEvent.objects.filter(pending=True).exists() or EventCursor.objects.exists())


def firsts(receiver: Receiver) -> dict[Any, list[int]]:
    """Return for each run the numbers of its events, in the order in which they were accepted first."""
    heard: dict[Any, list[int]] = defaultdict(list)
    for request in receiver.accepted:
        number = sequence_of(request.id)
        if number not in heard[run_id_of(request.id)]:
            heard[run_id_of(request.id)].append(number)
    return heard


def in_order(runs: list[WorkflowRun]) -> dict[Any, list[int]]:
    return {run.pk: list(range(1, EVENTS_OF_CHAIN + 1)) for run in runs}


@pytest.mark.parametrize("flushers", [1, 3])
def test_a_receiver_that_fails_half_of_the_time_hears_of_everything_in_order(
    known: Any, flushers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(CHAIN)
    # As if every second were shorter.
    monkeypatch.setattr(delivering, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(sending, "FIRST_REST_SECONDS", 0.05)
    dice, tries = random.Random(5), Counter[str]()

    def behave(request: Received) -> str:
        # Not for ever: this is about what comes in the end.
        tries[request.id] += 1
        return dice.choice(BAD) if dice.random() < 0.5 and tries[request.id] < 6 else "200"

    kernel = webhook_kernel(timeout=0.4, webhook_max_attempts=20)
    with receiving(behave) as receiver, use_kernel(kernel):
        hook = endpoint(kernel, receiver.url)
        runs = [new_run() for _ in range(12)]
        with flushing(kernel, flushers):
            process_available_jobs(max_jobs=1000)
            until(nothing_waits, "everything has been delivered", 120)

    assert firsts(receiver) == in_order(runs)
    assert len(receiver.received) > 12 * EVENTS_OF_CHAIN
    assert not DeadLetter.objects.exists()
    verifier = Webhook(hook.secret)
    for request in receiver.received:
        verifier.verify(request.body, request.headers)
    # What was accepted is not sent again: no event has two deliveries that count.
    counts = Counter(WebhookDelivery.objects.filter(delivered=True).values_list("event_id", flat=True))
    assert set(counts.values()) == {1}
    # The log has a row for each request, and counts the tries of an event.
    log: dict[str, list[int]] = defaultdict(list)
    for event_id, attempt in WebhookDelivery.objects.order_by("id").values_list("event_id", "attempt"):
        log[event_id].append(attempt)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in log.values())


@pytest.mark.parametrize("flushers", [2, 4])
def test_several_processes_double_nothing(known: Any, flushers: int) -> None:
    known(CHAIN)
    kernel = webhook_kernel()
    with receiving() as receiver, use_kernel(kernel):
        for _ in range(3):
            endpoint(kernel, receiver.url)
        runs = [new_run() for _ in range(10)]
        process_available_jobs(max_jobs=1000)

        def flush() -> None:
            while not nothing_waits():
                kernel.dispatch(FlushOutbox(max=7))

        together([flush] * flushers)

    assert len(receiver.received) == 3 * 10 * EVENTS_OF_CHAIN
    by_endpoint: dict[Any, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for delivery in WebhookDelivery.objects.order_by("id"):
        by_endpoint[delivery.endpoint_id][delivery.run_id].append(sequence_of(delivery.event_id))
    assert [heard == in_order(runs) for heard in by_endpoint.values()] == [True] * 3


def test_one_of_twenty_that_hangs_delays_nobody_else(known: Any) -> None:
    known(CHAIN)
    kernel = webhook_kernel(timeout=30)
    with receiving(lambda request: "hang") as hanging, receiving() as receiver, use_kernel(kernel):
        endpoint(kernel, hanging.url)
        for number in range(19):
            endpoint(kernel, f"{receiver.url}/{number}")
        runs = [new_run() for _ in range(3)]
        with flushing(kernel):
            process_available_jobs(max_jobs=1000)
            until(lambda: len(receiver.received) == 19 * 3 * EVENTS_OF_CHAIN, "the others hear of everything", 25)
            late = new_run()
            until(lambda: len(receiver.received) == 19 * (3 * EVENTS_OF_CHAIN + 1), "and of what comes later", 25)
            assert len(hanging.received) == 1, "one request at a time"
            hanging.let_go.set()

    assert run_id_of(receiver.received[-1].id) == late.pk
    for number in range(19):
        path = f"/hook/{number}"
        heard = [request.id for request in receiver.received if request.path == path]
        assert len(heard) == len(set(heard)) == 3 * EVENTS_OF_CHAIN + 1
        assert all(f"{run.pk}:1" in heard for run in runs)


def test_if_more_hang_than_there_are_threads_the_others_wait_for_one_time_limit_at_most(known: Any) -> None:
    known(CHAIN)
    kernel = webhook_kernel(timeout=0.5)
    with receiving(lambda request: "hang") as hanging, receiving() as receiver, use_kernel(kernel):
        for number in range(20):
            endpoint(kernel, f"{hanging.url}/{number}")
        endpoint(kernel, receiver.url)
        with flushing(kernel):
            new_run()
            # Twenty of 0.5 s by eight threads, once; then they have half of the threads.
            until(lambda: len(receiver.received) == 1, "the good one hears of it", 10)
            until(lambda: len(hanging.received) >= 20, "each of the others was asked", 30)
            new_run()
            until(lambda: len(receiver.received) == 2, "the good one hears of it", 5)
            assert sum(thread.name == "wfe-deliver" for thread in threading.enumerate()) <= 8


def test_one_that_is_disabled_meanwhile_gets_nothing_more(known: Any) -> None:
    known(CHAIN)
    kernel = webhook_kernel()
    with receiving(lambda request: "500") as receiver, use_kernel(kernel):
        hook = endpoint(kernel, receiver.url)
        new_run()
        with flushing(kernel) as (flusher,):
            until(lambda: receiver.received, "the first request")
            kernel.dispatch(DisableWebhook(endpoint_id=hook.pk))
            until(nothing_waits, "nothing waits for it")
            until(flusher.is_idle, "the flusher rests")
            sent = len(receiver.received)
            new_run()
            until(nothing_waits, "nothing waits for it")

    assert len(receiver.received) == sent


def test_it_hears_of_things_within_seconds_of_being_made_by_another_process(known: Any) -> None:
    known(CHAIN)
    kernel, other = webhook_kernel(kept=0.5), webhook_kernel()
    with receiving() as receiver, use_kernel(kernel), flushing(kernel):
        assert kernel.ports.subscribers.all() == ()
        endpoint(other, receiver.url)

        until(lambda: kernel.ports.subscribers.all(), "it is known")
        run = new_run()
        until(lambda: receiver.received, "it hears of a run")

    assert receiver.received[0].id == f"{run.pk}:1"


def test_what_410_disables_is_disabled_once_by_all(known: Any) -> None:
    known(CHAIN)
    kernel = webhook_kernel()
    gone = threading.Event()

    def behave(request: Received) -> str:
        return "410" if gone.is_set() else "200"

    with receiving(behave) as receiver, use_kernel(kernel):
        endpoint(kernel, receiver.url)
        with flushing(kernel, 3):
            new_run()
            until(lambda: receiver.accepted, "it hears of a run")
            gone.set()
            for _ in range(20):
                new_run()
            until(lambda: not WebhookEndpoint.objects.get().active, "it is disabled")
            until(nothing_waits, "nothing waits for it")

    assert 1 <= len(receiver.received) - len(receiver.accepted) <= 3


def test_a_flusher_sweeps_up_what_is_for_nobody_any_more(known: Any) -> None:
    known(CHAIN)
    kernel = webhook_kernel(kept=3600)
    with receiving() as receiver, use_kernel(kernel):
        endpoint(kernel, receiver.url)
        waiting, new = new_run(), new_run()
        kernel.dispatch(FlushOutbox(subscriber=""))
        OutboxEvent.objects.filter(run=new).update(pending=True)
        EventCursor.objects.filter(run=new).delete()
        assert EventCursor.objects.filter(run=waiting).exists()
        # By another process, which died before it had cleared away.
        WebhookEndpoint.objects.all().delete()

        with flushing(webhook_kernel()):
            until(nothing_waits, "nothing waits for it")

    assert not receiver.received
