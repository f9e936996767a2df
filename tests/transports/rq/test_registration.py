"""What RQ's own tools and the pages of django-rq see of our workers, and what they can tell them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings
from redis import Redis
from rq import Worker

from tests.settings import INSTALLED_APPS
from tests.transports.rq.conftest import facts
from tests.waiting import until
from tests.workflows import Number, chain
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.kernel.ports import Message
from workflow_engine.transports.rq import RqTransport, registration

pytestmark = pytest.mark.redis
MakeWorker = Callable[..., RqTransport]


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(registration, "CHANGE_SECONDS", 0.0)


def listed(redis: Redis) -> Any:
    (worker,) = Worker.all(connection=redis)
    return worker


def test_a_worker_is_listed_with_its_queues(make_worker: MakeWorker, redis: Redis) -> None:
    make_worker("workflows", "low", name="box/1")

    worker = listed(redis)
    assert worker.name.startswith("box-1-")
    assert worker.queue_names() == ["low", "workflows"]
    assert (worker.hostname, worker.get_state(), worker.successful_job_count) == ("host", "idle", 0)
    assert worker.get_current_job() is None
    assert 0 < redis.ttl(worker.key) <= 120
    assert Worker.count(queue=worker.queues[0]) == 1


def test_a_worker_of_all_queues_listens_to_those_of_every_stage_and_the_default(
    known: Any, make_worker: MakeWorker, redis: Redis
) -> None:
    @stage("elsewhere", queue="low")
    def elsewhere(ctx: StageContext[Number]) -> Number:
        return ctx.input

    known(define_workflow("w", input=Number).pipe(elsewhere).build(), chain(1))

    make_worker()

    assert listed(redis).queue_names() == ["low", "workflows"]


def test_a_beat_tells_state_and_count_and_keeps_the_entry_alive(make_worker: MakeWorker, redis: Redis) -> None:
    worker = make_worker()
    before = listed(redis)
    redis.expire(before.key, 3)

    worker.beat(2, 17)

    after = listed(redis)
    assert (after.get_state(), after.successful_job_count) == ("busy", 17)
    assert after.last_heartbeat > before.last_heartbeat
    assert redis.ttl(after.key) > 100
    worker.beat(0, 18)
    assert listed(redis).get_state() == "idle"


def test_beats_that_come_too_often_are_left_out(
    make_worker: MakeWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "BEAT_SECONDS", 3600.0)
    worker = make_worker()
    redis.config_resetstat()

    for number in range(100):
        worker.beat(0, number)

    assert "cmdstat_hset" not in redis.info("commandstats")


def test_an_entry_that_is_gone_is_written_again(make_worker: MakeWorker, redis: Redis) -> None:
    worker = make_worker()
    born = listed(redis).birth_date
    redis.flushall()

    worker.beat(1, 5)

    again = listed(redis)
    assert (again.get_state(), again.successful_job_count, again.birth_date) == ("busy", 5, born)
    assert again.queue_names() == ["workflows"]


def test_a_worker_that_stops_is_listed_no_more(make_worker: MakeWorker, redis: Redis) -> None:
    worker = make_worker()

    worker.detach()

    assert Worker.all(connection=redis) == []
    worker.beat(0, 0)
    assert Worker.all(connection=redis) == []


def test_a_worker_of_the_same_name_may_start_while_the_old_entry_lives(
    make_worker: MakeWorker, redis: Redis, make_transport: Any
) -> None:
    make_worker(name="box")
    again = make_transport()

    again.attach(facts(name="box"))

    assert len(Worker.all(connection=redis)) == 2


@pytest.fixture
def django_rq_installed() -> Any:
    with override_settings(INSTALLED_APPS=[*INSTALLED_APPS, "django_rq"]):
        yield


def test_the_statistics_of_django_rq_count_bells_and_workers(
    make_worker: MakeWorker, web: RqTransport, django_rq_installed: None, capsys: Any
) -> None:
    from django_rq.management.commands.rqstats import Command
    from django_rq.utils import get_statistics

    make_worker()
    web.push([Message("workflows")] * 3)

    queues = {queue["name"]: queue for queue in get_statistics()["queues"]}
    assert (queues["workflows"]["jobs"], queues["workflows"]["workers"]) == (3, 1)
    assert (queues["low"]["jobs"], queues["low"]["workers"]) == (0, 0)
    call_command(Command())
    assert "workflows" in capsys.readouterr().out


def test_suspending_and_resuming_rq_is_told_to_workers(
    make_worker: MakeWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch, django_rq_installed: None
) -> None:
    from django_rq.management.commands import rqresume, rqsuspend

    from workflow_engine.transports.rq import transport

    monkeypatch.setattr(transport, "SUSPENSION_SECONDS", 0.0)
    worker = make_worker()
    assert not worker.suspended

    call_command(rqsuspend.Command(), verbosity=0)
    assert worker.suspended
    worker.beat(0, 0)
    assert listed(redis).get_state() == "suspended"

    call_command(rqresume.Command(), verbosity=0)
    assert not worker.suspended


def test_suspension_is_asked_about_once_a_second(make_worker: MakeWorker, redis: Redis) -> None:
    worker = make_worker()
    until(lambda: not worker.suspended, "asked")
    redis.config_resetstat()

    for _ in range(100):
        _ = worker.suspended

    asked = redis.info("commandstats").get("cmdstat_exists", {"calls": 0})["calls"]
    assert asked <= 1
