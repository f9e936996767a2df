"""Bells in Redis: how many, in which queues, and what ringing costs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue

from workflow_engine.kernel.ports import Message
from workflow_engine.transports.rq import RqTransport, StageJob

pytestmark = pytest.mark.redis


def commands_of(redis: Redis, action: Callable[[], object]) -> dict[str, int]:
    """Return the commands that Redis was given by ``action``, with the round trips as ``trips``."""
    action()
    redis.config_resetstat()
    before = redis.info("stats")["total_reads_processed"]
    action()
    trips = redis.info("stats")["total_reads_processed"] - before - 1
    stats = redis.info("commandstats")
    ours = {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}
    return {name: count for name, count in ours.items() if name.split("|")[0] not in ("info", "config")} | {
        "trips": trips
    }


def test_a_bell_is_a_job_of_rq_with_nothing_but_a_name_and_an_id(web: RqTransport, redis: Redis) -> None:
    stage_run_id = uuid.uuid4()

    web.push([Message("workflows", stage_run_id)])

    queue = Queue("workflows", connection=redis, serializer="json")
    job = queue.jobs[0]
    assert (job.func_name, job.args) == ("workflow_engine.transports.rq.run_job", ["workflows", str(stage_run_id)])
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (-1, 0, 3600)
    assert job.description == "workflow engine: something is due"
    assert 0 < redis.ttl(job.key) <= 7 * 24 * 3600
    assert Queue.all(redis) == [queue]


@pytest.mark.parametrize(("pushed", "bells"), [(1, 1), (3, 3), (8, 8), (1000, 8)])
def test_one_push_rings_as_often_as_it_has_messages_and_at_most_eight_times(
    web: RqTransport, pushed: int, bells: int
) -> None:
    web.push([Message("workflows")] * pushed)

    assert web.depth("workflows") == bells


def test_bells_that_still_hang_there_are_not_rung_again(web: RqTransport, redis: Redis) -> None:
    web.push([Message("workflows")] * 3)
    for _ in range(20):
        web.push([Message("workflows")] * 5)

    assert web.depth("workflows") == 5
    assert len(redis.keys("rq:job:*")) == 5


def test_queues_are_rung_by_their_own_count(web: RqTransport) -> None:
    web.push([Message("workflows"), Message("low"), Message("low")])
    web.push([Message("workflows"), Message("workflows"), Message("low")])

    assert (web.depth("workflows"), web.depth("low")) == (2, 2)


def test_a_logical_queue_rings_in_the_queue_it_is_mapped_to(web: RqTransport, redis: Redis, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq", "QUEUES": {"slow": "low", "slower": "low"}}

    web.push([Message("slow"), Message("slower")])

    assert redis.llen("rq:queue:low") == web.depth("slow") == web.depth("slower") == 2
    assert not redis.exists("rq:queue:slow")


def test_a_queue_that_rq_does_not_know_is_rung_all_the_same(web: RqTransport) -> None:
    web.push([Message("of-an-old-run")])

    assert web.depth("of-an-old-run") == 1


def test_refilling_rings_once_where_no_bell_hangs(web: RqTransport) -> None:
    web.push([Message("workflows")] * 2)

    for _ in range(3):
        web.refill(["workflows", "low", "low"])

    assert (web.depth("workflows"), web.depth("low")) == (2, 1)


def test_many_that_refill_at_the_same_time_do_not_multiply_a_backlog(make_transport: Any) -> None:
    transports = [make_transport() for _ in range(5)]

    for _ in range(10):
        for transport in transports:
            transport.refill(["workflows"])

    assert transports[0].depth("workflows") == 1


def test_ringing_costs_two_round_trips_and_ringing_again_costs_one(web: RqTransport, redis: Redis) -> None:
    def ring_new() -> None:
        redis.delete("rq:queue:workflows", "rq:queue:low")
        web.push([Message("workflows"), Message("low")])

    first = commands_of(redis, ring_new)
    again = commands_of(redis, lambda: web.push([Message("workflows"), Message("low")]))

    assert first.pop("trips") == 2 + 1  # ours, and the deletion above
    assert first == {"del": 1, "llen": 2, "multi": 1, "sadd": 1, "hset": 2, "expire": 2, "rpush": 2, "exec": 1}
    assert again == {"llen": 2, "trips": 1}


def test_pushing_nothing_asks_redis_nothing(web: RqTransport, redis: Redis) -> None:
    assert commands_of(redis, lambda: web.push([])) == {"trips": 0}


def test_a_bell_can_be_read_back(web: RqTransport, redis: Redis) -> None:
    message = Message("workflows", uuid.uuid4())
    web.push([message])

    (job_id,) = redis.lrange("rq:queue:workflows", 0, -1)
    job = StageJob.fetch(job_id.decode(), connection=redis)

    assert isinstance(job, StageJob)
    assert job.message() == message
