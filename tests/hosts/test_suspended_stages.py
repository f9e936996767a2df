"""Suspended stages in a worker: real threads, real clock, waiting on conditions only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.hosts.resting import RINGING, holding
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import Completion, Wait, answer_stage, cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, RunCancelledError, StageContext, define_workflow, stage
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.wait import run_and_wait
from workflow_engine.hosts.worker import Worker
from workflow_engine.models import StageAttempt, StageRun, WorkerHeartbeat, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
SOON = timedelta(milliseconds=50)


def polled(id: str, check: Callable[[], Completion[int]], *, timeout: float = 60, **options: Any) -> Any:
    """Return a workflow of one stage whose completion ``check`` finds."""

    @stage(f"{id}-stage", **options)
    def submit(ctx: StageContext[None]) -> int:
        ctx.suspend(None, poll_every=SOON)

    @submit.check_completion(timeout=timedelta(seconds=timeout))
    def checked(ctx: StageContext[None], state: None) -> Completion[int]:
        return check()

    return define_workflow(id).pipe(submit).build()


def test_a_worker_checks_until_the_work_is_done(known: Any) -> None:
    answers = [Completion.pending(), Completion.pending(SOON), Completion.ready(7)]
    run = create_run(known(polled("batch", lambda: answers.pop(0))))

    with working():
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert run.get_output() == 7
    assert check_all() == 1


def test_nothing_that_is_due_waits_for_a_tick(known: Any, settings: Any) -> None:
    """The tick comes once an hour here."""
    settings.WORKFLOW_ENGINE = RINGING
    ask = Wait("ask", int, max_wait=SOON, default=3)

    @stage("sleepy", waits=[ask])
    def sleepy(ctx: StageContext[None]) -> int:
        ctx.sleep(SOON, name="first")
        ctx.sleep_until(ctx.now() + SOON, name="second")
        return ctx.wait_for(ask)

    answers = [Completion.pending(SOON), Completion.pending(SOON), Completion.ready(7)]
    known(define_workflow("sleepy").pipe(sleepy).build(), polled("batch", lambda: answers.pop(0)))

    with working():
        runs = [create_run("sleepy"), create_run("batch")]
        until(lambda: all(status_of(run) == "COMPLETED" for run in runs), "both runs have ended")


def test_checks_are_made_while_every_slot_is_taken_and_slow_ones_hold_up_no_stage(known: Any) -> None:
    entered, leave, checking = threading.Event(), threading.Event(), threading.Event()

    @stage("long")
    def long(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(60)

    def check() -> Completion[int]:
        checking.set()
        leave.wait(60)
        return Completion.ready(1)

    known(define_workflow("long").pipe(long).build(), polled("batch", check), chain(1))
    batch = create_run("batch")
    with working(threads=1):
        until(lambda: StageRun.objects.filter(run=batch, status="SUSPENDED").exists(), "the batch is submitted")
        create_run("long")
        assert entered.wait(30)
        assert checking.wait(30)
        beat = WorkerHeartbeat.objects.get()
        with working(threads=1, name="other"):
            quick = create_run("chain", {"value": 1})
            until(lambda: status_of(quick) == "COMPLETED", "another run is not held up by the slow check")
        assert StageRun.objects.get(run=batch).status == "SUSPENDED"
        leave.set()
        until(lambda: not WorkflowRun.objects.open().exists(), "all have ended")
    assert beat.slots == 1


def test_a_check_that_hangs_is_fenced_off_counted_and_tried_again_while_others_go_on(known: Any) -> None:
    leave, calls = threading.Event(), []

    def check() -> Completion[int]:
        calls.append(1)
        if len(calls) == 1:
            leave.wait(120)
        return Completion.ready(len(calls))

    policy = Retry(max_attempts=3, initial=SOON)
    run = create_run(known(polled("batch", check, timeout=0.2, check_retry=policy)))
    with working() as worker:
        until(lambda: status_of(run) == "COMPLETED", "the second check has completed it")
        assert worker.lane.zombies == 1
        worker.beat()
        assert WorkerHeartbeat.objects.get().zombies == 1
        leave.set()

    run.refresh_from_db()
    history = StageAttempt.objects.filter(kind="check").order_by("id").values_list("outcome", "error_code")
    assert list(history) == [("retrying", "TIMEOUT"), ("completed", "")]
    assert run.get_output() == 2
    check_all()


def test_a_check_is_told_of_a_cancellation_and_of_nothing_else(known: Any) -> None:
    looked, go_on, cancelled = threading.Event(), threading.Event(), threading.Event()

    @stage("batch")
    def submit(ctx: StageContext[None]) -> int:
        ctx.suspend(None, poll_every=SOON)

    @submit.check_completion
    def check(ctx: StageContext[None], state: None) -> Completion[int]:
        # Asked for real: the answer of a moment ago counts for half a second.
        ctx._desk._asked_at = 0.0  # type: ignore[attr-defined]
        ctx.raise_if_cancelled()
        looked.set()
        go_on.wait(60)
        try:
            ctx.raise_if_cancelled()
        except RunCancelledError:
            cancelled.set()
            raise
        return Completion.ready(1)

    run = create_run(known(define_workflow("batch").pipe(submit).build()))
    with working() as worker:
        assert looked.wait(30)
        cancel_run(run)
        worker.beat()
        go_on.set()
        assert cancelled.wait(30)
        until(lambda: len(worker.lane.held) == 0, "the check has ended")

    row = StageRun.objects.get()
    assert (row.status, row.output) == ("CANCELLED", None)
    check_all()


def test_a_draining_worker_gives_back_the_checks_that_do_not_end(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    def check() -> Completion[int]:
        entered.set()
        leave.wait(120)
        return Completion.ready(1)

    create_run(known(polled("batch", check)))
    with working(grace=0.1):
        assert entered.wait(30)
        token = StageRun.objects.get().token

    row = StageRun.objects.get()
    leave.set()
    assert (row.status, row.worker, row.check_errors, row.suspect) == ("SUSPENDED", None, 0, False)
    assert row.token > token


def test_an_answer_from_elsewhere_wakes_a_resting_worker(known: Any, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = RINGING
    ask = Wait("ask", int)

    @stage("ask", waits=[ask])
    def asks(ctx: StageContext[None]) -> int:
        return ctx.wait_for(ask)

    run = create_run(known(define_workflow("ask").pipe(asks).build()))
    with working():
        until(lambda: StageRun.objects.filter(status="SUSPENDED").exists(), "the stage waits")
        answer_stage(run, asks, 5)
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")


def test_a_timer_whose_run_is_held_goes_on_once_it_is_free(known: Any) -> None:
    @stage("naps")
    def naps(ctx: StageContext[None]) -> None:
        ctx.sleep(timedelta(milliseconds=300))

    run = create_run(known(define_workflow("naps").pipe(naps).build()))
    with working():
        until(lambda: StageRun.objects.filter(status="SUSPENDED").exists(), "the stage sleeps")
        with holding(run):
            now = get_kernel().ports.clock.db_now
            until(lambda: StageRun.objects.filter(wake_at__lt=now()).exists(), "its time is over")
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")


def test_a_burst_makes_the_checks_that_are_due_and_leaves_the_rest(known: Any) -> None:
    answers = [Completion.pending(timedelta(hours=1))]
    run = create_run(known(polled("batch", lambda: answers[0])))
    Worker(get_kernel(), WorkerOptions(burst=True, threads=2)).run()
    assert StageRun.objects.get().status == "SUSPENDED"
    answers[0] = Completion.ready(1)
    StageRun.objects.update(wake_at=get_kernel().ports.clock.db_now())

    Worker(get_kernel(), WorkerOptions(burst=True, threads=2)).run()

    assert status_of(run) == "COMPLETED"


def test_a_host_without_worker_makes_checks_too(known: Any) -> None:
    run = create_run(known(polled("batch", lambda: Completion.ready(1))))
    process_available_jobs()
    StageRun.objects.update(wake_at=get_kernel().ports.clock.db_now())

    process_available_jobs()

    assert status_of(run) == "COMPLETED"


def test_run_and_wait_drives_a_run_over_its_waits(known: Any) -> None:
    answers = [Completion.pending(SOON), Completion.ready(1)]
    workflow = known(polled("batch", lambda: answers.pop(0)))

    assert run_and_wait(workflow, timeout=60).output == 1


def test_many_sleepers_and_checks_at_once(known: Any) -> None:
    @stage("naps")
    def naps(ctx: StageContext[None]) -> None:
        ctx.sleep(SOON)

    known(define_workflow("naps").pipe(naps).build(), polled("batch", lambda: Completion.ready(1)))
    runs = [create_run(name) for name in ("naps", "batch") for _ in range(100)]

    with working():
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert {status_of(run) for run in runs} == {"COMPLETED"}
    check_all()
