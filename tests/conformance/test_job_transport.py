"""One suite for the JobTransport port, over every adapter."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from tests.conftest import REDIS_URL
from workflow_engine.kernel.ports import JobTransport, Message, WorkerFacts
from workflow_engine.testing import SilentTransport
from workflow_engine.transports.database import DatabaseTransport
from workflow_engine.transports.eager import EagerTransport
from workflow_engine.transports.rq import RqTransport

pytestmark = pytest.mark.django_db(transaction=True)


RQ = pytest.param(RqTransport, marks=pytest.mark.redis)


@pytest.fixture(params=[DatabaseTransport, EagerTransport, SilentTransport, RQ])
def transport(request: Any) -> Iterator[JobTransport]:
    yield from make(request.param, request)


@pytest.fixture(params=[DatabaseTransport, RQ])
def waiting_transport(request: Any) -> Iterator[JobTransport]:
    """Return a transport whose ``pop`` waits."""
    yield from make(request.param, request)


def make(kind: type[Any], request: Any) -> Iterator[JobTransport]:
    if kind is RqTransport:
        yield from make_rq(request.getfixturevalue("settings"))
    else:
        yield kind()


def make_rq(settings: Any) -> Iterator[JobTransport]:
    """Use queues of our own on a server that others may use too."""
    names = {name: f"conformance-{uuid.uuid4().hex}" for name in ("workflows", "other")}
    settings.RQ_QUEUES = {name: {"URL": REDIS_URL, "SERIALIZER": "json"} for name in names.values()}
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq", "QUEUES": names}
    transport = RqTransport()
    yield transport
    transport.detach()
    with Redis.from_url(REDIS_URL) as client:
        for key in (f"rq:queue:{name}" for name in names.values()):
            jobs = [f"rq:job:{job_id.decode()}" for job_id in client.lrange(key, 0, -1)]
            client.delete(key, *jobs)
            client.srem("rq:queues", key)


def test_pushing_nothing_and_something_never_fails(transport: JobTransport) -> None:
    transport.push([])
    transport.push([Message("workflows"), Message("other")])

    assert isinstance(transport.depth("workflows"), int)


def test_pop_returns_messages_or_nothing_and_ack_takes_any(transport: JobTransport) -> None:
    transport.push([Message("workflows")])

    popped = transport.pop(0)
    for message in [*popped, Message("never-seen")]:
        transport.ack(message)

    assert all(isinstance(message, Message) for message in popped)


def test_the_epoch_stays_while_nothing_is_lost(transport: JobTransport) -> None:
    assert transport.epoch() == transport.epoch() != ""


def test_a_push_wakes_a_waiting_worker_of_the_same_process(waiting_transport: JobTransport) -> None:
    transport = waiting_transport
    transport.pop(0)
    waiting, woken = threading.Event(), threading.Event()

    def wait() -> None:
        transport.pop(0)
        waiting.set()
        began = time.monotonic()
        transport.pop(60)
        if time.monotonic() - began < 30:
            woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    transport.push([])
    thread.join(30)

    assert woken.is_set()


def test_a_push_before_the_wait_is_not_missed(waiting_transport: JobTransport) -> None:
    waiting_transport.push([])
    began = time.monotonic()

    waiting_transport.pop(60)

    assert time.monotonic() - began < 30


def test_every_transport_takes_what_a_worker_tells_it(transport: JobTransport) -> None:
    worker = WorkerFacts(id=uuid.uuid4(), name="box", host="host", pid=1, version="1", slots=1)

    transport.attach(worker)
    transport.beat(1, 2)
    transport.refill(["workflows", "other"])
    told = (transport.polls, transport.suspended)
    transport.detach()

    assert all(isinstance(item, bool) for item in told)
    assert transport.polls
