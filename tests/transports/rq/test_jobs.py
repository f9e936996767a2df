"""``StageJob`` in RQ's own workers: it runs one function, whatever Redis says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from redis import Redis
from rq import Callback, Queue, SimpleWorker
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty
from rq.webhook import Webhook

from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.jobs import execute_job, process_available_jobs
from workflow_engine.kernel.ports import Message
from workflow_engine.models import StageRun, WorkerHeartbeat
from workflow_engine.transports.rq import RqTransport, StageJob

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]
RUN_JOB = "workflow_engine.transports.rq.run_job"
FOREIGN = "tests.transports.rq.test_jobs.foreign"


class Horse(SimpleWorker):
    """RQ's worker in this thread, without its signal handlers and threads."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        pass

    def subscribe(self) -> None:
        pass

    def unsubscribe(self) -> None:
        pass


def work(redis: Redis, *queues: str, serializer: Any = None) -> None:
    worker = Horse(list(queues or ("workflows",)), connection=redis, job_class=StageJob, serializer=serializer)
    worker.work(burst=True, logging_level="WARNING")


calls: list[object] = []


def foreign(*args: object, **kwargs: object) -> None:
    calls.append(args)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.mark.parametrize("serializer", ["json", None])
def test_a_bell_in_a_plain_rq_worker_does_what_is_due(
    known: Any, web: RqTransport, redis: Redis, serializer: str | None
) -> None:
    known(chain(3))
    runs = [create_run("chain", {"value": 1}) for _ in range(2)]

    work(redis, serializer=serializer)

    for run in runs:
        run.refresh_from_db()
    assert {run.status for run in runs} == {"COMPLETED"}
    assert web.depth("workflows") == 0
    assert not redis.keys("rq:job:*")
    # It was no worker of ours that listens: RQ's own is registered.
    assert WorkerHeartbeat.objects.filter(stopped_at=None).count() == 0


def test_a_bell_does_the_work_of_every_queue_that_rings_in_the_same_one(
    known: Any, server: Any, redis: Redis, settings: Any
) -> None:
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq", "QUEUES": {"workflows": "low", "slow": "low"}}
    known(chain(1))
    run = create_run("chain", {"value": 1})
    StageRun.objects.update(queue="slow")

    work(redis, "low")

    run.refresh_from_db()
    assert run.status == "COMPLETED"


def test_one_job_ends_after_so_many_attempts_and_rings_for_the_rest(known: Any, web: RqTransport, redis: Redis) -> None:
    known(chain(1))
    for _ in range(5):
        create_run("chain", {"value": 1})
    redis.flushall()

    assert process_available_jobs(max_jobs=2, queues=["workflows"]) == 2
    assert web.depth("workflows") == 1

    assert process_available_jobs(max_jobs=100, queues=["workflows"]) == 3
    assert web.depth("workflows") == 1


def test_a_message_is_done_with_all_that_its_queue_has(known: Any, server: Any) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})

    assert execute_job(Message("other")) == 0
    assert execute_job(Message("workflows")) == 2


def test_the_connections_of_a_job_are_closed_at_its_end(known: Any, server: Any) -> None:
    known(chain(1))
    create_run("chain", {"value": 1})

    process_available_jobs()

    assert connections["default"].connection is None


def failures(redis: Redis) -> list[str]:
    return list(FailedJobRegistry("workflows", connection=redis).get_job_ids())


def test_another_function_is_not_called(server: Any, redis: Redis) -> None:
    job = Queue("workflows", connection=redis, serializer="json").enqueue(FOREIGN, "x")

    work(redis)

    assert calls == []
    assert failures(redis) == [job.id]


def test_a_method_of_an_instance_is_not_called(server: Any, redis: Redis) -> None:
    job = Queue("workflows", connection=redis, serializer="json").enqueue(RUN_JOB, "x")
    job.instance = "x"
    job.save()

    work(redis)

    assert failures(redis) == [job.id]


def test_pickles_are_not_opened_even_by_a_worker_that_would(server: Any, redis: Redis) -> None:
    job = Queue("workflows", connection=redis).enqueue(foreign, "x")

    work(redis, serializer=None)

    assert calls == []
    assert failures(redis) == [job.id]


def test_callbacks_webhooks_retries_and_repeats_of_a_job_are_dropped(server: Any, redis: Redis) -> None:
    queue = Queue("workflows", connection=redis, serializer=JSONSerializer)
    job = queue.enqueue(
        RUN_JOB,
        "workflows",
        on_success=Callback(FOREIGN),
        on_failure=Callback(FOREIGN),
        on_stopped=Callback(FOREIGN),
        webhooks=[Webhook("http://127.0.0.1:1/", "finished")],
        description="run_job('secret')",
    )
    redis.hset(job.key, mapping={"retries_left": 3, "repeats_left": 3, "repeat_intervals": "[0]"})

    read = StageJob.fetch(job.id, connection=redis)
    work(redis)

    assert (read.success_callback, read.failure_callback, read.stopped_callback) == (None, None, None)
    assert (read.webhooks, read.retries_left, read.repeats_left) == ([], None, None)
    assert read.description == "workflow engine: something is due"
    assert calls == []
    assert failures(redis) == []


def test_the_function_of_a_bell_is_exactly_one(server: Any, redis: Redis) -> None:
    job = StageJob.ring_for(Message("workflows"), redis)
    assert job.func.__name__ == "run_job"

    job.func_name = "os.getcwd"
    with pytest.raises(PermissionError, match=r"may call 'workflow_engine.transports.rq.run_job' only"):
        _ = job.func


def test_the_kernel_of_a_project_that_says_so_rings_by_rq(server: Any, known: Callable[..., Any], redis: Redis) -> None:
    known(chain(1))

    create_run("chain", {"value": 1})

    assert isinstance(get_kernel().ports.transport, RqTransport)
    assert redis.llen("rq:queue:workflows") == 1
