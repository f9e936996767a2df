"""Redis may be away, hang, come back empty: said once, and everything goes on by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.transports.rq.conftest import Idle, until_listening
from tests.transports.rq.servers import RedisServer
from tests.waiting import until
from workflow_engine.kernel.ports import Message
from workflow_engine.transports.rq import RqTransport, line

pytestmark = pytest.mark.redis
MakeWorker = Callable[..., RqTransport]
BELL = Message("workflows")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pauses after an outage be short."""
    monkeypatch.setattr(line, "BREAK_SECONDS", 0.05)
    monkeypatch.setattr(line, "SHAKY_SECONDS", 0.3)


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return len([record for record in caplog.records if words in record.getMessage()])


def test_a_push_without_redis_is_said_once_and_raises_nothing(
    web: RqTransport, server: RedisServer, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    server.stop()

    for _ in range(5):
        web.push([BELL])
        web.refill(["workflows"])

    assert said(caplog, "redis does not answer") == 1


def test_after_a_failure_redis_is_left_alone_for_a_moment(
    web: RqTransport, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "BREAK_SECONDS", 3600)
    server.stop()
    web.push([BELL])
    server.start()

    web.push([BELL])

    assert web.depth("workflows") == 0
    with server.client() as client:
        assert client.llen("rq:queue:workflows") == 0


def test_a_redis_that_hangs_costs_one_timeout_and_not_one_for_each_push(web: RqTransport, server: RedisServer) -> None:
    web.push([BELL])
    server.freeze()
    began = time.monotonic()

    for _ in range(100):
        web.push([BELL])

    assert time.monotonic() - began < 2 * line.ANSWER_SECONDS + 0.5


def test_when_it_is_back_bells_ring_again(
    web: RqTransport, server: RedisServer, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    caplog.set_level(logging.INFO, logger="workflow_engine")
    server.stop()
    web.push([BELL])
    server.start()

    until(lambda: web.push([BELL]) or web.depth("workflows") == 1, "a bell hangs there")

    assert said(caplog, "redis answers again") == 1


def test_wrong_settings_do_not_reach_whoever_commits(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    del settings.RQ_QUEUES
    transport = RqTransport()

    transport.push([BELL])

    assert said(caplog, "RQ_QUEUES") == 1


def test_a_worker_polls_while_redis_is_away_and_for_a_moment_after(
    make_worker: MakeWorker, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "BREAK_SECONDS", 0.05)
    worker = make_worker()
    assert not worker.polls
    server.stop()

    until(lambda: worker.beat(1, 1) or worker.polls, "it knows")
    assert worker.suspended is False
    server.start()
    until(lambda: worker.push([BELL]) or worker._line.is_up, "it is back")
    assert worker.polls
    monkeypatch.setattr(line, "SHAKY_SECONDS", 0)
    assert not worker.polls


def test_a_transport_without_a_worker_polls(web: RqTransport) -> None:
    assert web.polls


def test_an_idle_worker_is_woken_when_redis_goes_away_so_that_it_begins_to_poll(
    make_worker: MakeWorker, server: RedisServer, redis: Redis
) -> None:
    worker = make_worker()
    idle = Idle(worker)
    until_listening(redis)

    server.stop()

    assert idle.woken() == []
    assert worker.polls


@pytest.mark.slow
def test_a_worker_that_polls_hears_bells_again_as_soon_as_redis_is_back(
    make_worker: MakeWorker, web: RqTransport, server: RedisServer, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    caplog.set_level(logging.INFO, logger="workflow_engine")
    worker, stop = make_worker(), threading.Event()

    def poll() -> None:
        while not stop.is_set():
            worker.pop(0.3 if worker.polls else 5)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    server.stop()
    until(lambda: worker.polls, "it polls")
    server.start()

    until(lambda: not worker.polls, "it relies on bells again")
    with server.client() as client:
        until_listening(client)
        until(lambda: client.smembers("rq:workers"), "it is registered again")
        until(lambda: web.push([BELL]) or client.llen("rq:queue:workflows") == 0, "the bell was heard")
    stop.set()
    worker.push([])
    thread.join(10)
    assert said(caplog, "redis does not answer") == 1
    assert said(caplog, "redis answers again") == 1


def test_a_worker_starts_without_redis_and_finds_it_later(
    make_worker: MakeWorker, server: RedisServer, impatient: None
) -> None:
    server.stop()
    worker = make_worker()
    assert worker.polls

    server.start()

    with server.client() as client:
        until(lambda: worker._line.is_steady or worker._registration.register(), "it is back")  # type: ignore[union-attr]
        assert client.scard("rq:workers") == 1
    assert not worker.polls


def test_a_redis_that_is_full_lets_workers_listen_and_is_not_taken_for_well(
    make_worker: MakeWorker, web: RqTransport, redis: Redis, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    caplog.set_level(logging.INFO, logger="workflow_engine")
    worker = make_worker()
    redis.config_set("maxmemory", 1)
    try:
        until(lambda: worker.epoch() and worker.polls, "it knows")
        Idle(worker)
        until_listening(redis)
        worker.push([BELL])
        assert worker.polls
    finally:
        redis.config_set("maxmemory", 0)

    until(lambda: worker.epoch() and not worker.polls, "it is well again")
    assert said(caplog, "redis does not answer") == 1
    assert said(caplog, "redis answers again") == 1


def test_the_epoch_is_another_once_redis_was_emptied(make_transport: Any, redis: Redis) -> None:
    transport, other = make_transport(), make_transport()
    before = transport.epoch()

    assert other.epoch() == transport.epoch() == before
    redis.flushall()
    after = transport.epoch()

    assert before != after
    assert other.epoch() == after


def test_the_epoch_is_the_last_known_while_redis_is_away(
    web: RqTransport, server: RedisServer, impatient: None
) -> None:
    before = web.epoch()
    server.stop()

    assert web.epoch() == before

    server.start()
    until(lambda: web.epoch() != before, "an empty Redis is another epoch")


def test_detaching_without_redis_raises_nothing(make_worker: MakeWorker, server: RedisServer) -> None:
    worker = make_worker()
    server.stop()

    worker.detach()

    assert worker.polls
