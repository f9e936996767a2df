"""Threads that hang: each frees its slot, up to a cap; past it the worker drains, so that a fresh one takes over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.hosts.test_worker import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import Number, add_stage
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import FEWEST_ZOMBIES, Worker
from workflow_engine.models import StageRun, WorkerHeartbeat, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hanging(known: Callable[..., Any]) -> Iterator[Workflow[Any, Any]]:
    """Return a workflow whose body hangs until the test is over."""
    leave = threading.Event()

    @stage("hangs", timeout=timedelta(milliseconds=50), retry=Retry(max_attempts=1))
    def hangs(ctx: StageContext[Number]) -> Number:
        leave.wait(60)
        return ctx.input

    quick = define_workflow("quick", input=Number).pipe(add_stage("one")).build()
    yield known(define_workflow("hanging", input=Number).pipe(hangs).build(), quick)
    leave.set()


def hang(workflow: Workflow[Any, Any], times: int) -> list[WorkflowRun]:
    return [create_run(workflow, {"value": 1}) for _ in range(times)]


def test_up_to_the_cap_the_worker_goes_on_with_all_its_slots(hanging: Workflow[Any, Any]) -> None:
    runs = hang(hanging, FEWEST_ZOMBIES)
    with working(threads=1) as worker:
        until(lambda: all(status_of(run) == "FAILED" for run in runs), "all have timed out")

        last = create_run("quick", {"value": 1})
        until(lambda: status_of(last) == "COMPLETED", "the only slot is free")

        assert worker.zombies == FEWEST_ZOMBIES
        assert not worker.is_stopping
        worker.beat()
        assert WorkerHeartbeat.objects.get().zombies == FEWEST_ZOMBIES
    check_all()


def test_past_the_cap_the_worker_says_so_once_and_drains(
    hanging: Workflow[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    runs = hang(hanging, FEWEST_ZOMBIES + 1)
    worker = Worker(get_kernel(), WorkerOptions(threads=1, grace=5))

    with caplog.at_level(logging.WARNING):
        # Nobody stops it but itself.
        worker.run()

    assert [status_of(run) for run in runs] == ["FAILED"] * len(runs)
    assert caplog.text.count("too many threads hang") == 1
    assert WorkerHeartbeat.objects.get().stopped_at is not None
    assert not StageRun.objects.filter(status="RUNNING").exists()
    check_all()


def test_a_signal_to_a_worker_that_drains_by_itself_is_the_first_and_the_next_one_hurries(db: None) -> None:
    worker = Worker(get_kernel(), WorkerOptions(threads=1))
    worker._pool = Hanging(FEWEST_ZOMBIES + 1)  # type: ignore[assignment]

    worker._limit_zombies()
    assert worker.is_stopping
    worker.stop()
    assert not worker._hurry.is_set()
    worker.stop()

    assert worker._hurry.is_set()


def test_the_cap_is_the_number_of_slots_where_that_is_more(db: None) -> None:
    worker = Worker(get_kernel(), WorkerOptions(threads=9))

    for zombies, stops in ((9, False), (10, True)):
        worker._pool = Hanging(zombies)  # type: ignore[assignment]
        worker._limit_zombies()
        assert worker.is_stopping is stops


class Hanging:
    """A pool of which so many threads hang."""

    def __init__(self, zombies: int) -> None:
        self.zombies = zombies
