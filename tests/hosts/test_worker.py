"""The worker in this process: real threads, real clock, waiting on conditions only."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import Broken, Number, chain, fan
from workflow_engine import cancel_run, create_run, run_and_wait
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.definitions.results import RunCancelledError
from workflow_engine.errors import InvalidTransition, WaitTimeout
from workflow_engine.executors.held import Held, Lease
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.taking import Taker
from workflow_engine.hosts.worker import Worker
from workflow_engine.models import StageAttempt, StageRun, WorkerHeartbeat, WorkflowLog, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.smoke
def test_a_worker_runs_everything_that_is_due(known: Any) -> None:
    known(chain(3), fan(3))
    runs = [create_run(name, {"value": 1}) for name in ("chain", "fan") for _ in range(10)]

    with working():
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert {status_of(run) for run in runs} == {"COMPLETED"}
    assert check_all() == 20
    worker = WorkerHeartbeat.objects.get()
    assert worker.stopped_at is not None
    assert worker.workflows == ["chain", "fan"]


def test_a_burst_ends_when_nothing_is_left(known: Any) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})

    finished = Worker(get_kernel(), WorkerOptions(burst=True, threads=2)).run()

    assert finished == 2
    assert not WorkflowRun.objects.open().exists()


def test_a_worker_serves_its_queues_only(known: Any) -> None:
    @stage("elsewhere", queue="other")
    def elsewhere(ctx: StageContext[Number]) -> Number:
        return ctx.input

    known(define_workflow("w", input=Number).pipe(elsewhere).build(), chain(1))
    other = create_run("w", {"value": 1})
    mine = create_run("chain", {"value": 1})

    with working(queues=["workflows"]):
        until(lambda: status_of(mine) == "COMPLETED", "the run of the served queue has ended")

    assert StageRun.objects.get(run=other).status == "PENDING"


def test_bodies_run_with_no_transaction_open_and_their_start_is_seen_by_others(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()
    in_transaction: list[bool] = []

    @stage("holds")
    def holds(ctx: StageContext[None]) -> None:
        in_transaction.append(connection.in_atomic_block)
        ctx.log.info("in the body")
        ctx.progress(50, "half")
        entered.set()
        leave.wait(30)

    run = create_run(known(define_workflow("w").pipe(holds).build()))
    with working():
        assert entered.wait(30)
        row = StageRun.objects.get(run=run)
        assert (row.status, row.attempt) == ("RUNNING", 1)
        until(lambda: WorkflowLog.objects.filter(run=run).exists(), "the log line is seen while the body runs")
        until(lambda: StageRun.objects.get(run=run).progress, "the progress is seen while the body runs")
        leave.set()
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert in_transaction == [False]


def test_stopping_lets_bodies_finish_and_takes_nothing_new(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    @stage("holds")
    def holds(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(30)

    @stage("after")
    def after(ctx: StageContext[None]) -> None:
        pass

    run = create_run(known(define_workflow("w").pipe(holds).pipe(after).build()))
    with working(grace=30) as worker:
        assert entered.wait(30)
        look, looking = worker.taker.take, threading.Lock()

        def take(*args: Any) -> Any:
            with looking:
                return look(*args)

        worker.taker.take = take  # type: ignore[method-assign]
        worker.stop()
        with looking:
            # A look that began before the stop may still take something.
            leave.set()

    assert dict(StageRun.objects.values_list("stage", "status")) == {"holds": "COMPLETED", "after": "PENDING"}
    assert status_of(run) == "RUNNING"


def test_what_is_not_done_within_the_grace_time_is_released_and_spends_nothing(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    @stage("holds")
    def holds(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(30)

    create_run(known(define_workflow("w").pipe(holds).build()))
    with working(grace=0):
        assert entered.wait(30)
    leave.set()

    row = StageRun.objects.get()
    assert (row.status, row.failures, row.crashes, row.suspect) == ("PENDING", 0, 0, False)
    assert StageAttempt.objects.get().outcome == "released"
    check_all()


def test_a_cancelled_body_is_told_and_its_result_is_dropped(known: Any) -> None:
    entered = threading.Event()
    told = threading.Event()

    @stage("loops")
    def loops(ctx: StageContext[None]) -> None:
        entered.set()
        try:
            until(lambda: ctx.raise_if_cancelled(), "told of the cancellation")
        except RunCancelledError:
            told.set()
            raise

    run = create_run(known(define_workflow("w").pipe(loops).build()))
    with working():
        assert entered.wait(30)
        assert cancel_run(run)
        assert told.wait(30)

    assert status_of(run) == "CANCELLED"
    check_all()


@pytest.mark.one_database
def test_a_result_that_the_database_refuses_is_told(
    known: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Nobody tells the process before its body returns.
    monkeypatch.setattr("workflow_engine.hosts.worker.WATCH_SECONDS", 3600)
    caplog.set_level("INFO", logger="workflow_engine.hosts")

    @stage("cancels-itself")
    def cancels_itself(ctx: StageContext[None]) -> None:
        cancel_run(ctx.run_id)

    run = create_run(known(define_workflow("w").pipe(cancels_itself).build()))
    with working():
        until(lambda: "result refused" in caplog.text, "the refusal is told")

    assert f"result refused run={run.pk} stage=cancels-itself" in caplog.text
    assert status_of(run) == "CANCELLED"
    check_all()


def test_a_body_over_its_time_is_fenced_off_and_its_slot_is_free_again(known: Any) -> None:
    leave = threading.Event()

    @stage("hangs", timeout=timedelta(milliseconds=200), retry=Retry(max_attempts=2, initial=timedelta(0)))
    def hangs(ctx: StageContext[None]) -> str:
        if ctx.attempt == 1:
            leave.wait(60)
            return "too late"
        return "in time"

    run = create_run(known(define_workflow("w").pipe(hangs).build()))
    with working(threads=1) as worker:
        until(lambda: status_of(run) == "COMPLETED", "the second attempt has completed in the only slot")
        assert worker._pool is not None
        assert worker._pool.zombies == 1
        leave.set()
        until(lambda: worker._pool.zombies == 0, "the zombie has ended")  # type: ignore[union-attr]

    assert WorkflowRun.objects.get(pk=run.pk).get_output() == "in time"
    first = StageAttempt.objects.order_by("token")[0]
    assert (first.outcome, first.error_code, first.error_class) == ("retrying", "TIMEOUT", "TimeoutError")
    check_all()


@pytest.mark.parametrize("mess", ["autocommit", "atomic", "error"])
def test_a_body_that_leaves_a_transaction_or_a_broken_connection_harms_no_other(known: Any, mess: str) -> None:
    @stage("messy", retry=Retry(max_attempts=1))
    def messy(ctx: StageContext[None]) -> None:
        if mess == "autocommit":
            connection.set_autocommit(False)
        elif mess == "atomic":
            transaction.atomic().__enter__()
        WorkflowLog.objects.exists()
        if mess == "error":
            with connection.cursor() as cursor:
                cursor.execute("no such statement")

    @stage("clean")
    def clean(ctx: StageContext[None]) -> bool:
        return bool(connection.get_autocommit())

    messy_flow = define_workflow("messy").pipe(messy).build()
    known(messy_flow, define_workflow("clean").pipe(clean).build())
    with working(threads=1):
        first = create_run("messy")
        until(lambda: status_of(first) in ("COMPLETED", "FAILED"), "the messy run has ended")
        second = create_run("clean")
        until(lambda: status_of(second) == "COMPLETED", "the clean run has ended")

    assert WorkflowRun.objects.get(pk=second.pk).get_output() is True
    check_all()


def test_a_suspect_runs_alone_also_on_a_worker_that_is_never_idle(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_engine.hosts.taking.SUSPECT_PATIENCE_SECONDS", 0.1)
    together: list[int] = []
    ends = threading.Event()
    worker_box: list[Worker] = []

    @stage("busy")
    def busy(ctx: StageContext[Number]) -> Number:
        threading.Event().wait(0.02)
        return ctx.input

    @stage("suspicious")
    def suspicious(ctx: StageContext[None]) -> None:
        together.append(len(worker_box[0].held))
        ends.set()

    known(define_workflow("busy", input=Number).pipe(busy).build(), define_workflow("w").pipe(suspicious).build())
    create_run("w")
    get_kernel().dispatch(_claim())
    StageRun.objects.update(suspect=True)
    for _ in range(60):
        create_run("busy", {"value": 1})
    with working(threads=4) as worker:
        worker_box.append(worker)
        until(ends.is_set, "the suspect has run")
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert together == [1]
    assert StageRun.objects.get(stage="suspicious").alone


def _claim() -> Any:
    from workflow_engine.kernel.commands import ClaimPendingRuns

    return ClaimPendingRuns()


def test_looking_for_work_costs_one_statement(known: Any) -> None:
    known(chain(1))
    worker = Worker(get_kernel())
    worker.beat()
    taker: Taker = worker.taker
    # Which pauses there are is read once a second, whatever is looked at.
    worker.kernel.ports.pause_cache.forget()
    worker.kernel.ports.pauses()

    with CaptureQueriesContext(connection) as captured:
        assert taker.take(worker._starter(), 0) == []

    assert len(captured) == 1


def test_resting_asks_nothing_so_that_a_database_that_is_away_is_complained_of_once(known: Any) -> None:
    known(chain(1))
    worker = Worker(get_kernel(), WorkerOptions(threads=1, attach=False))
    worker.beat()
    worker._idle = True

    with CaptureQueriesContext(connection) as asked:
        worker._rest()

    assert asked.captured_queries == []


def test_run_and_wait_returns_the_typed_output_and_reports_changes(known: Any) -> None:
    workflow = known(chain(2))
    seen: list[str] = []

    result = run_and_wait(workflow, {"value": 1}, timeout=30, on_change=lambda snapshot: seen.append(snapshot.status))

    assert (result.status, result.output, result.error) == ("COMPLETED", Number(value=3), None)
    assert [item.stage_id for item in result.stages] == ["add-1", "add-2"]
    assert seen[-1] == "COMPLETED"
    assert WorkerHeartbeat.objects.get().stopped_at is not None


def test_run_and_wait_returns_failures_and_drives_its_own_run_only(known: Any) -> None:
    @stage("fails", retry=Retry(max_attempts=1))
    def fails(ctx: StageContext[None]) -> None:
        raise Broken("really")

    known(chain(1), define_workflow("w").pipe(fails).build())
    other = create_run("chain", {"value": 1})

    result = run_and_wait("w", timeout=30)

    assert (result.status, result.output) == ("FAILED", None)
    assert result.error is not None
    assert (result.error["message"], result.error["stage"]) == ("really", "fails")
    assert status_of(other) == "PENDING"


def test_run_and_wait_gives_up_waiting_but_not_the_run(known: Any) -> None:
    known(chain(1))

    with pytest.raises(WaitTimeout) as stopped:
        run_and_wait("chain", {"value": 1}, timeout=0.05, host=False)

    assert WorkflowRun.objects.get(pk=stopped.value.run_id).status == "PENDING"


@pytest.mark.django_db(transaction=False)
def test_run_and_wait_refuses_a_transaction_that_hides_the_run(known: Any) -> None:
    known(chain(1))

    with pytest.raises(InvalidTransition, match="inside a transaction"):
        run_and_wait("chain", {"value": 1})

    assert not WorkflowRun.objects.exists()


def test_a_lease_that_could_not_be_renewed_is_over_before_the_database_thinks_so() -> None:
    lease = Lease(seconds=30, margin=10)
    held = Held(stage=Any, lease=lease)  # type: ignore[arg-type]
    held.check()

    lease.renewed(sent_at=-1e9)

    held.stage = type("Stage", (), {"stage_id": "x"})()
    with pytest.raises(RunCancelledError, match="could not renew"):
        held.check()


def test_the_connections_of_worker_threads_are_closed_at_the_end(known: Any) -> None:
    known(chain(1))
    create_run("chain", {"value": 1})
    with working():
        until(lambda: not WorkflowRun.objects.open().exists(), "the run has ended")

    until(lambda: not any(thread.name.startswith("wfe-") for thread in threading.enumerate()), "all threads have ended")
    assert connections["default"].connection is not None


def test_a_worker_that_could_not_beat_gives_its_stage_back_and_never_fails_it(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its own loop beats as it starts, and would renew what this test lets run out.
    beat = Worker.beat
    monkeypatch.setattr(Worker, "beat", lambda worker: None)
    entered, over = threading.Event(), threading.Event()

    @stage("works")
    def works(ctx: StageContext[None]) -> int:
        if ctx.attempt == 1:
            entered.set()
            over.wait(30)
        ctx.progress(50)
        return ctx.attempt

    run = create_run(known(define_workflow("w").pipe(works).build()))
    with working() as worker:
        assert entered.wait(30)
        worker.lease.renewed(sent_at=-1e9)
        over.set()
        until(lambda: len(worker.held) == 0, "the worker has let go of the stage")
        assert status_of(run) == "RUNNING"
        # What it does not hold any more it gives back, at the second beat that finds it.
        for _ in range(2):
            beat(worker)
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert [item.outcome for item in StageAttempt.objects.order_by("token")] == ["released", "completed"]
    check_all()
