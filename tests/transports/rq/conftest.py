"""A Redis of our own, and transports as the processes of a project would have them."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.backends.processes import scratch_directory
from tests.transports.rq.servers import RedisServer, server_binary
from tests.waiting import until
from workflow_engine.kernel.ports import Message, WorkerFacts
from workflow_engine.transports.rq import RqTransport


@pytest.fixture(scope="session")
def _server() -> Iterator[RedisServer]:
    binary = server_binary()
    if binary is None:
        pytest.skip("needs a redis-server of our own")
    with scratch_directory() as directory:
        server = RedisServer(binary, directory)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def server(_server: RedisServer, settings: Any) -> Iterator[RedisServer]:
    """Return a running, empty server that the project's ``RQ_QUEUES`` name."""
    _server.start()
    entry = {"URL": _server.url, "SERIALIZER": "json"}
    settings.RQ_QUEUES = {name: dict(entry) for name in ("default", "workflows", "low")}
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq"}
    with _server.client() as client:
        client.flushall()
    yield _server
    if _server.process is not None:
        _server.thaw()


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def make_transport(server: RedisServer) -> Iterator[Callable[[], RqTransport]]:
    """Return a function that gives a transport like that of another process."""
    made: list[RqTransport] = []

    def make() -> RqTransport:
        made.append(RqTransport())
        return made[-1]

    yield make
    for transport in made:
        transport.detach()
        transport._line.close()


@pytest.fixture
def web(make_transport: Callable[[], RqTransport]) -> RqTransport:
    """Return the transport of a process without a worker."""
    return make_transport()


@pytest.fixture
def make_worker(make_transport: Callable[[], RqTransport]) -> Callable[..., RqTransport]:
    """Return a function that gives the transport of a process with a worker."""

    def make(*queues: str, name: str = "box") -> RqTransport:
        transport = make_transport()
        transport.attach(facts(*queues, name=name))
        return transport

    return make


def facts(*queues: str, name: str = "box") -> WorkerFacts:
    return WorkerFacts(
        id=uuid.uuid4(), name=name, host="host", pid=os.getpid(), version="1", slots=2, queues=queues or None
    )


class Idle:
    """A worker's thread that has found nothing to do and waits for a bell."""

    def __init__(self, transport: RqTransport) -> None:
        self.messages: list[Message] | None = None
        self._transport = transport
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        until(lambda: transport._doorbell.has_waiter or self.messages is not None, "it waits, or was woken already")

    def _wait(self) -> None:
        self._transport.pop(0)
        self.messages = self._transport.pop(60)

    def woken(self) -> list[Message]:
        """Return what came with the bell."""
        until(lambda: self.messages is not None, "it is woken")
        self._thread.join(10)
        return self.messages or []


def until_listening(redis: Redis, count: int = 1) -> None:
    until(lambda: redis.info("clients")["blocked_clients"] == count, "listeners wait in Redis")
