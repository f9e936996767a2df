"""Deadlines of runs are kept to the moment, and bodies hear of a cancel in another process before the next beat."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.hosts.test_worker import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import Number, add_stage, chain
from workflow_engine import cancel_run, create_run, pause_queue, pause_workflow, resume_queue, resume_workflow
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.definitions.results import RunCancelledError
from workflow_engine.hosts.deadlines import Deadlines
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import Pause, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unpaused")]


def started(run: WorkflowRun) -> int:
    return run.stage_runs.filter(attempt__gt=0).count()


class Bodies:
    """A plain stage and an async one that go on until they are told to end."""

    def __init__(self) -> None:
        self.entered, self.told = threading.Event(), threading.Event()

        @stage("loops", retry=Retry(max_attempts=1))
        def loops(ctx: StageContext[None]) -> None:
            self.entered.set()
            try:
                # A call that does not ask the database.
                until(lambda: ctx.log.info("on it"), "told")
            except RunCancelledError:
                self.told.set()
                raise

        @stage("waits", retry=Retry(max_attempts=1))
        async def waits(ctx: StageContext[None]) -> None:
            self.entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                self.told.set()

        self.stages = {"plain": loops, "async": waits}


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_cancel_reaches_a_body_long_before_the_next_beat(known: Any, kind: str) -> None:
    bodies = Bodies()
    run = create_run(known(define_workflow("w").pipe(bodies.stages[kind]).build()))

    with working() as worker:
        assert bodies.entered.wait(30)
        limits = worker.kernel.ports.limits
        cancelled_at = time.monotonic()
        assert cancel_run(run)
        assert bodies.told.wait(30)

        assert time.monotonic() - cancelled_at < limits.beat_seconds / 2

    assert status_of(run) == "CANCELLED"
    check_all()


def test_a_database_that_is_away_stops_nothing_else_of_the_watch(known: Any) -> None:
    bodies, asked = Bodies(), []
    run = create_run(known(define_workflow("w").pipe(bodies.stages["plain"]).build()))

    def away(*args: Any) -> Any:
        asked.append(args)
        raise OperationalError("server closed the connection unexpectedly")

    with working() as worker:
        assert bodies.entered.wait(30)
        with connection.execute_wrapper(away):
            worker.watch._tell_lost(time.monotonic() + 10)
        assert len(asked) == 1
        assert not bodies.told.is_set()

        worker.watch._asked_at = 0.0
        assert cancel_run(run)
        assert bodies.told.wait(30)


def test_nobody_is_asked_about_while_nothing_runs_for_long(known: Any) -> None:
    known(chain(1))
    worker = Worker(get_kernel(), WorkerOptions(threads=1))

    with CaptureQueriesContext(connection) as captured:
        worker.watch._tell_lost(time.monotonic())

    assert len(captured) == 0


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_run_ends_at_its_deadline_and_not_at_the_next_tick(known: Any, kind: str) -> None:
    bodies = Bodies()
    timeout = timedelta(milliseconds=400)
    workflow = define_workflow("w", timeout=timeout).pipe(bodies.stages[kind]).build()
    known(workflow)

    with working() as worker:
        # It has just looked, and would sleep for a whole tick.
        until(lambda: worker._deadlines and worker._deadlines._until < float("inf"), "the loop sleeps")
        run = create_run(workflow)
        until(lambda: status_of(run) == "FAILED", "the run has ended")
        assert bodies.told.wait(30)

    run = WorkflowRun.objects.get(pk=run.pk)
    assert run.error["code"] == "RUN_TIMEOUT"
    assert run.finished_at is not None
    assert run.deadline_at is not None
    # A tick is 5 seconds.
    assert timedelta(0) <= run.finished_at - run.deadline_at < timedelta(seconds=2)
    check_all()


def test_workers_that_know_no_timeout_look_for_no_deadline(known: Any) -> None:
    known(chain(1))

    assert not Deadlines.needed(get_kernel())


def test_the_loop_sleeps_until_the_next_deadline(known: Any) -> None:
    timed = define_workflow("timed", input=Number, timeout=timedelta(seconds=2)).pipe(add_stage("one")).build()
    known(timed)
    deadlines = Deadlines(get_kernel())
    assert deadlines.step() == 5

    run = create_run(timed, {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns())

    assert 0.05 <= deadlines.step() <= 2
    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    assert deadlines.step() == 5
    assert status_of(run) == "FAILED"


@pytest.mark.parametrize("scope", ["workflow", "queue"])
def test_a_worker_heeds_a_pause_and_goes_on_when_it_is_over(known: Any, scope: str) -> None:
    known(chain(2))
    name = {"workflow": "chain", "queue": "workflows"}[scope]
    pause = {"workflow": pause_workflow, "queue": pause_queue}[scope]
    resume = {"workflow": resume_workflow, "queue": resume_queue}[scope]
    pause(name)
    paused = create_run("chain", {"value": 1})

    with working() as worker:
        until(lambda: worker._idle, "the worker has looked")
        assert started(paused) == 0
        assert resume(name)
        until(lambda: status_of(paused) == "COMPLETED", "the run has ended")
    check_all()


@pytest.mark.parametrize("made", [True, False])
def test_a_worker_hears_of_what_another_process_pauses_or_resumes(known: Any, made: bool) -> None:
    known(chain(1))
    row = {"scope": "queue", "name": "workflows", "paused_at": timezone.now()}
    if not made:
        Pause.objects.create(**row)

    with working() as worker:
        until(lambda: bool(worker.kernel.ports.pauses()) is not made, "the worker knows how it is now")
        # As another process does it: nothing here is told.
        if made:
            Pause.objects.create(**row)
        else:
            Pause.objects.all().delete()
        until(lambda: bool(worker.kernel.ports.pauses()) is made, "the worker has heard of it")
        run = create_run("chain", {"value": 1})
        until(lambda: worker._idle and (made or status_of(run) == "COMPLETED"), "the worker has looked")

    assert started(run) == (0 if made else 1)
