"""Who hears a bell, and what becomes of bells that are lost, doubled, late or not ours."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry

from tests.transports.rq.conftest import Idle, until_listening
from tests.waiting import until
from workflow_engine.kernel.ports import Message
from workflow_engine.transports.rq import RqTransport

pytestmark = pytest.mark.redis
MakeWorker = Callable[..., RqTransport]


def test_a_bell_wakes_an_idle_worker_of_another_process_and_leaves_nothing(
    web: RqTransport, make_worker: MakeWorker, redis: Redis
) -> None:
    idle, message = Idle(make_worker()), Message("workflows", uuid.uuid4())
    until_listening(redis)

    web.push([message])

    assert idle.woken() == [message]
    until(lambda: not redis.keys("rq:job:*"), "the job is gone")
    assert web.depth("workflows") == 0


def test_a_bell_rung_before_anybody_waits_is_not_missed(web: RqTransport, make_worker: MakeWorker) -> None:
    web.push([Message("workflows")])

    assert Idle(make_worker()).woken() == [Message("workflows")]


def test_a_worker_is_woken_by_its_own_process_without_redis(make_worker: MakeWorker) -> None:
    worker = make_worker()
    idle = Idle(worker)

    worker.push([])

    assert idle.woken() == []


def test_a_busy_worker_leaves_bells_to_idle_ones(web: RqTransport, make_worker: MakeWorker) -> None:
    make_worker(name="busy")
    web.push([Message("workflows")])

    assert Idle(make_worker(name="idle")).woken() == [Message("workflows")]


def test_a_worker_that_found_work_while_it_listened_gives_the_bell_back(
    web: RqTransport, make_worker: MakeWorker, redis: Redis
) -> None:
    worker = make_worker()
    idle = Idle(worker)
    until_listening(redis)
    worker.push([])
    idle.woken()

    web.push([Message("workflows")])
    until_listening(redis, 0)
    until(lambda: web.depth("workflows") == 1, "the bell hangs there again")

    assert worker.pop(0) == []
    assert Idle(make_worker(name="another")).woken() == [Message("workflows")]


def test_as_many_idle_workers_are_woken_as_there_are_bells(
    web: RqTransport, make_worker: MakeWorker, redis: Redis
) -> None:
    idle = [Idle(make_worker(name=str(number))) for number in range(3)]
    until_listening(redis, 3)

    web.push([Message("workflows")] * 3)

    assert [one.woken() for one in idle] == [[Message("workflows")]] * 3


def test_a_worker_hears_the_queues_it_serves_and_no_others(web: RqTransport, make_worker: MakeWorker) -> None:
    idle = Idle(make_worker("low"))

    web.push([Message("workflows")])
    web.push([Message("low")])

    assert idle.woken() == [Message("low")]
    assert web.depth("workflows") == 1


def test_a_worker_of_all_queues_learns_those_of_old_runs_from_the_tick(
    web: RqTransport, make_worker: MakeWorker
) -> None:
    worker = make_worker()
    worker.refill(["of-an-old-run"])

    assert Idle(worker).woken() == [Message("of-an-old-run")]


def test_a_bell_that_hangs_there_twice_rings_twice_and_nothing_breaks(
    web: RqTransport, make_worker: MakeWorker, redis: Redis
) -> None:
    web.push([Message("workflows")])
    redis.rpush("rq:queue:workflows", redis.lindex("rq:queue:workflows", 0) or b"")
    worker = make_worker()

    assert Idle(worker).woken() == [Message("workflows")]
    assert Idle(worker).woken() == []


def test_a_bell_whose_job_is_lost_still_rings(web: RqTransport, make_worker: MakeWorker, redis: Redis) -> None:
    web.push([Message("workflows")])
    redis.delete(*redis.keys("rq:job:*"))

    assert Idle(make_worker()).woken() == []
    assert web.depth("workflows") == 0


def hostile(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("a foreign job was executed")


class Explosive:
    def __reduce__(self) -> Any:
        return hostile, ()


def enqueue_other_function(redis: Redis) -> None:
    Queue("workflows", connection=redis, serializer="json").enqueue("os.getcwd")


def enqueue_method(redis: Redis) -> None:
    job = Queue("workflows", connection=redis, serializer="json").enqueue("workflow_engine.transports.rq.run_job")
    job.instance = "text"
    job.save()


def enqueue_pickle(redis: Redis) -> None:
    Queue("workflows", connection=redis).enqueue(hostile, "secret")


def enqueue_explosive_pickle(redis: Redis) -> None:
    job = Queue("workflows", connection=redis, serializer="json").enqueue("workflow_engine.transports.rq.run_job")
    redis.hset(job.key, mapping={"data": pickle.dumps(Explosive()), "meta": pickle.dumps(Explosive())})


def enqueue_wrong_arguments(redis: Redis) -> None:
    Queue("workflows", connection=redis, serializer="json").enqueue(
        "workflow_engine.transports.rq.run_job", "workflows", "no id"
    )


@pytest.mark.parametrize(
    "enqueue",
    [
        enqueue_other_function,
        enqueue_method,
        enqueue_pickle,
        enqueue_explosive_pickle,
        enqueue_wrong_arguments,
    ],
)
def test_a_foreign_job_is_refused_and_rings_for_the_bell_it_may_have_displaced(
    make_worker: MakeWorker, redis: Redis, enqueue: Callable[[Redis], None], caplog: pytest.LogCaptureFixture
) -> None:
    enqueue(redis)

    assert Idle(make_worker()).woken() == []

    (job_id,) = FailedJobRegistry("workflows", connection=redis).get_job_ids()
    assert redis.llen("rq:queue:workflows") == 0
    (record,) = [record for record in caplog.records if "foreign job refused" in record.getMessage()]
    assert job_id in record.getMessage()
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("entry", ["no id at all", "../../etc", "9" * 10_000, ""])
def test_rubbish_in_the_list_is_dropped(make_worker: MakeWorker, redis: Redis, web: RqTransport, entry: str) -> None:
    redis.rpush("rq:queue:workflows", entry)
    worker = make_worker()

    assert Idle(worker).woken() == []
    web.push([Message("workflows")])
    assert Idle(worker).woken() == [Message("workflows")]


def test_a_job_that_rq_itself_cannot_read_is_dropped(make_worker: MakeWorker, redis: Redis) -> None:
    enqueue_other_function(redis)
    redis.hset(redis.keys("rq:job:*")[0], "status", "no such status")

    assert Idle(make_worker()).woken() == []


def test_a_suspended_worker_pops_no_bells(web: RqTransport, make_worker: MakeWorker, redis: Redis) -> None:
    redis.set("rq:suspended", 1)
    worker = make_worker()
    idle = Idle(worker)
    until(lambda: worker.suspended, "it knows")
    web.push([Message("workflows")])

    assert web.depth("workflows") == 1
    redis.delete("rq:suspended")
    assert idle.woken() == [Message("workflows")]


def test_a_second_worker_of_the_same_process_is_heard_too(
    web: RqTransport, make_worker: MakeWorker, redis: Redis
) -> None:
    from tests.transports.rq.conftest import facts

    transport = make_worker("low")
    transport.attach(facts("workflows"))
    web.push([Message("workflows")])

    assert Idle(transport).woken() == [Message("workflows")]
    transport.detach()
    assert not transport.polls
    transport.detach()
    assert transport.polls


def test_a_worker_that_is_gone_listens_no_more(web: RqTransport, make_worker: MakeWorker, redis: Redis) -> None:
    worker = make_worker()
    idle = Idle(worker)
    until_listening(redis)

    worker.detach()
    until_listening(redis, 0)
    web.push([Message("workflows")])

    assert web.depth("workflows") == 1
    worker.push([])
    idle.woken()
