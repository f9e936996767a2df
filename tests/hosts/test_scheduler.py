"""A worker does what is due when it is due, whatever else it has to do."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from tests.hosts.resting import RINGING, until_it_rests
from tests.hosts.working import working
from tests.janitors import worker
from tests.schedules.nights import INPUT, NIGHTLY, make_due
from tests.waiting import until
from workflow_engine import StageContext, create_run, create_schedule, define_workflow, schedule, stage
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.scheduler import Scheduler
from workflow_engine.kernel.commands import Beat, CancelRun, CreateRun
from workflow_engine.models import ScheduledCommand, ScheduleFire, WorkerHeartbeat, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
POLLING = {"TICK_SECONDS": 3600, "POLL_SECONDS": 0.1}
release = threading.Event()


@stage("hold")
def hold(ctx: StageContext[None]) -> str:
    release.wait(60)
    return "held"


HOLDING = define_workflow("holding", input=None).pipe(hold).build()


def in_seconds(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def late_by(row: ScheduledCommand) -> float:
    until(lambda: ScheduledCommand.objects.filter(pk=row.pk, status="FIRED").exists(), "it is fired", seconds=30)
    row.refresh_from_db()
    assert row.finished_at is not None
    return (row.finished_at - row.run_at).total_seconds()


@pytest.mark.parametrize("settings", [RINGING, POLLING])
def test_what_is_due_in_two_seconds_waits_for_no_tick(known: Any, settings: dict[str, Any]) -> None:
    known(NIGHTLY)
    with override_settings(WORKFLOW_ENGINE=settings), working():
        run = create_run(NIGHTLY, INPUT, run_at=in_seconds(3600))
        if settings is RINGING:
            until_it_rests()
        late = late_by(schedule(CancelRun(run_id=run.pk), run_at=in_seconds(2)))

    assert 0 <= late < 1


def test_a_worker_that_has_no_thread_free_fires_all_the_same(known: Any) -> None:
    known(NIGHTLY, HOLDING)
    release.clear()
    with override_settings(WORKFLOW_ENGINE={"TICK_SECONDS": 0.5}), working(threads=1):
        held = create_run(HOLDING)
        until(lambda: WorkflowRun.objects.filter(pk=held.pk, status="RUNNING").exists(), "the only thread is taken")
        try:
            late = late_by(schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=in_seconds(1)))
        finally:
            release.set()

    assert 0 <= late < 1.5


def test_a_schedule_of_this_minute_is_started_and_worked_at(known: Any) -> None:
    known(NIGHTLY)
    create_schedule("night", NIGHTLY, "0 0 1 1 *", input=INPUT)
    due = make_due()
    with override_settings(WORKFLOW_ENGINE=POLLING), working():
        until(lambda: WorkflowRun.objects.filter(status="COMPLETED").exists(), "the run of the night has ended")

    assert ScheduleFire.objects.get().due_at == due


def test_a_burst_does_what_is_due_before_it_ends(known: Any) -> None:
    known(NIGHTLY)
    schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=in_seconds(-1))
    rest = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=in_seconds(3600))
    with override_settings(WORKFLOW_ENGINE={"POLL_SECONDS": 0.1}), working(burst=True) as worker:
        until(lambda: WorkflowRun.objects.filter(status="COMPLETED").exists(), "what was due is done")
        until(lambda: worker.is_stopping, "the burst is over")

    rest.refresh_from_db()
    assert rest.status == "PENDING"


def test_a_burst_does_not_wait_for_what_only_others_can_do(known: Any) -> None:
    known(NIGHTLY)
    create_schedule("night", NIGHTLY, "0 0 1 1 *", input=INPUT)
    make_due()
    get_kernel().dispatch(Beat(worker=worker({"nightly": ["sweep"]}), running={}))
    with (
        registry_override(HOLDING),
        override_settings(WORKFLOW_ENGINE={"POLL_SECONDS": 0.1}),
        working(burst=True) as one,
    ):
        until(lambda: one.is_stopping, "the burst is over", seconds=20)

    assert not ScheduleFire.objects.exists()


def test_the_loop_sleeps_until_the_first_and_asks_one_question(known: Any) -> None:
    known(NIGHTLY)
    asked: Counter[str] = Counter()
    with override_settings(WORKFLOW_ENGINE={"TICK_SECONDS": 3600}), working() as worker:
        until(WorkerHeartbeat.objects.filter(pk=worker.id).exists, "the worker has written its row")
        scheduler = Scheduler(get_kernel(), worker.id, 100)
        with connection.execute_wrapper(lambda execute, sql, *rest: (asked.update(["all"]), execute(sql, *rest))[1]):
            assert scheduler.step() == 60
            assert asked["all"] == 1
            schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=in_seconds(20))
            assert 18 < scheduler.step() <= 20


def test_who_sees_something_due_sooner_wakes_the_loop_once(known: Any) -> None:
    known(NIGHTLY)
    with override_settings(WORKFLOW_ENGINE={"TICK_SECONDS": 3600}), working() as worker:
        until(WorkerHeartbeat.objects.filter(pk=worker.id).exists, "the worker has written its row")
        scheduler = Scheduler(get_kernel(), worker.id, 100)
        schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=in_seconds(30))
        scheduler.step()

        woken = []
        for seconds in (None, 40.0, 30.0, 5.0):
            scheduler.expect(seconds)
            woken.append(scheduler.loop.is_woken)

    assert woken == [False, False, False, True]
