"""What is delivered twice, late, or not at all, and workers that die (T-29 to T-37)."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.hosts.working import status_of, working
from tests.invariants import check_all, events
from tests.waiting import until
from tests.workflows import Number, chain
from workflow_engine import Completion, Wait, cancel_run, create_run
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.results import Completed, Notes
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    Beat,
    ClaimPendingRuns,
    Finished,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    StartStages,
    WorkerFacts,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowLog, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db
OVER = timedelta(seconds=41)  # a lease of 30 s and one beat of 10 s


def facts(worker_id: uuid.UUID | None = None) -> WorkerFacts:
    return WorkerFacts(id=worker_id or uuid.uuid4(), name="w", host="h", pid=1, version="1", slots=1)


def take(kernel: Kernel, worker: WorkerFacts) -> StartedStage:
    """Start the one stage that is due, alone in its process."""
    starter = Starter(worker_id=worker.id, slots=1, alone=True)
    claimed = kernel.dispatch(ClaimPendingRuns(starter=starter)).started
    return (claimed or kernel.dispatch(StartStages(starter=starter, idle=True)).started)[0]


def finish(kernel: Kernel, started: StartedStage, value: int = 1) -> Finished:
    result = Completed(inline({"value": value}), Notes({"value": value}))
    return kernel.dispatch(FinishStages(outcomes=(Outcome(started, result, timedelta(0)),))).finished[0]


class FailingBlobs(InMemoryBlobStore):
    """A store that is away for its first calls."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def put(self, key: str, data: bytes) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionError("the store is away")
        return super().put(key, data)


def test_t29_an_error_of_the_infrastructure_leaves_the_stage_recoverable(known: Any, clock: FakeClock) -> None:
    @stage("large")
    def large(ctx: StageContext[None]) -> str:
        return "x" * 100_000

    known(define_workflow("larges").pipe(large).build())
    with use_kernel(create_test_kernel(clock=clock, blobs=FailingBlobs(1))) as kernel:
        host = InlineHost(kernel)
        run = create_run("larges", idempotency_key="once")
        host.drain()
        row = StageRun.objects.get()
        assert (row.status, row.failures, row.error["class"]) == ("PENDING", 1, "ConnectionError")  # type: ignore[index]
        clock.move_to(row.due_at)
        host.drain()

        assert create_run("larges", idempotency_key="once").pk == run.pk
        assert len(WorkflowRun.objects.get(pk=run.pk).get_output()) == 100_000
    check_all()


def test_t30_a_body_that_kills_its_worker_is_given_up(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    deliveries = 0
    while StageRun.objects.filter(status="FAILED").count() == 0 and deliveries < 25:
        worker = facts()
        kernel.dispatch(Beat(worker=worker, running={}))
        take(kernel, worker)
        deliveries += 1
        clock.advance(OVER)
        kernel.dispatch(ReapStaleLeases())
        clock.advance(timedelta(minutes=1))

    run.refresh_from_db()
    assert (deliveries, run.status) == (3, "FAILED")
    assert (run.error["code"], run.error["stage"]) == ("WORKER_LOST", "add-1")
    assert list(StageAttempt.objects.values_list("outcome", flat=True)) == ["lost"] * 3
    check_all()


def test_t31_a_completed_stage_that_is_delivered_again_does_not_run(known: Any, host: InlineHost) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    host.drain()
    before, row = events(run), StageRun.objects.get()

    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    again = host.kernel.dispatch(StartStages(starter=starter, stage_run_ids=(row.pk,)))

    assert (again.started, events(run), StageAttempt.objects.count()) == ((), before, 1)
    assert StageRun.objects.get().token == row.token


def test_t32_a_suspended_stage_that_is_delivered_again_does_not_submit_twice(known: Any, host: InlineHost) -> None:
    submitted: list[str] = []

    @stage("submit")
    def submit(ctx: StageContext[None]) -> int:
        submitted.append(ctx.idempotency_token)
        ctx.suspend({"batch": 1})

    @submit.check_completion
    def check(ctx: StageContext[None], state: dict[str, int]) -> Completion[int]:
        return Completion.ready(1)

    known(define_workflow("batch").pipe(submit).build())
    create_run("batch")
    host.drain()
    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    for _ in range(3):
        again = host.kernel.dispatch(StartStages(starter=starter, stage_run_ids=(StageRun.objects.get().pk,)))
        assert again.started == ()

    assert len(submitted) == 1


def test_t33_beats_keep_a_long_body_alive_and_without_them_it_is_delivered_again(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    known(chain(1))
    create_run("chain", {"value": 1})
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    started = take(kernel, worker)
    for _ in range(100):
        clock.advance(timedelta(seconds=25))
        lost = kernel.dispatch(Beat(worker=worker, running={started.stage_run_id: started.token})).lost
        assert (lost, kernel.dispatch(ReapStaleLeases()).released) == (frozenset(), ())

    clock.advance(OVER)

    assert kernel.dispatch(ReapStaleLeases()).released == (started.stage_run_id,)
    assert StageRun.objects.get().status == "PENDING"


def test_t33_the_reaper_leaves_alone_what_nobody_runs(known: Any, host: InlineHost, clock: FakeClock) -> None:
    ask = Wait("ask", int)

    @stage("asks", waits=[ask])
    def asks(ctx: StageContext[None]) -> int:
        return ctx.wait_for(ask)

    known(chain(1), define_workflow("asking").pipe(asks).build())
    done, waits = create_run("chain", {"value": 1}), create_run("asking")
    host.drain()
    pending = create_run("chain", {"value": 1})
    host.kernel.dispatch(ClaimPendingRuns())
    before = list(StageRun.objects.order_by("pk").values())
    clock.advance(timedelta(days=30))

    reaped = host.kernel.dispatch(ReapStaleLeases())

    assert (reaped.released, reaped.failed) == ((), ())
    assert list(StageRun.objects.order_by("pk").values()) == before
    assert [status_of(run) for run in (done, waits, pending)] == ["COMPLETED", "RUNNING", "RUNNING"]


def test_t34_a_late_attempt_overwrites_nothing_of_a_newer_one(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    @stage("large")
    def large(ctx: StageContext[None]) -> str:
        ctx.log.info("ran", attempt=ctx.attempt)
        return str(ctx.attempt) * 100_000

    known(define_workflow("larges").pipe(large).build())
    run, worker = create_run("larges"), facts()
    host = InlineHost(kernel)
    late = host.take(run.pk)[0]
    assert late.worker_id != worker.id
    clock.advance(OVER)
    kernel.dispatch(ReapStaleLeases())
    clock.advance(timedelta(minutes=1))
    host.drain()
    row, before = StageRun.objects.get(), events(run)

    assert host.execute(late).kind == "ghost"

    after = StageRun.objects.get()
    assert (after.output, after.token, events(run)) == (row.output, row.token, before)
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == "2" * 100_000
    check_all()


@pytest.mark.parametrize("end", ["cancelled", "failed", "deleted"])
def test_t35_what_is_delivered_for_a_run_that_is_over_is_dropped(
    known: Any, kernel: Kernel, clock: FakeClock, end: str
) -> None:
    known(chain(2))
    run, worker = create_run("chain", {"value": 1}), facts()
    started = take(kernel, worker)
    if end == "deleted":
        WorkflowRun.objects.get(pk=run.pk).delete()
    elif end == "failed":
        # Its only stage is taken away three times.
        StageRun.objects.update(crashes=2)
        clock.advance(OVER)
        kernel.dispatch(ReapStaleLeases())
    else:
        cancel_run(run)
    told = OutboxEvent.objects.count()

    starter = Starter(worker_id=worker.id, slots=1)
    again = kernel.dispatch(StartStages(starter=starter, stage_run_ids=(started.stage_run_id,)))

    assert (finish(kernel, started).kind, again.started) == ("ghost", ())
    assert OutboxEvent.objects.count() == told
    assert not StageRun.objects.filter(status__in=["PENDING", "RUNNING", "COMPLETED"]).exists()


@pytest.mark.django_db(transaction=True)
def test_t36_a_database_that_is_away_is_no_empty_queue_and_work_begins_when_it_is_there(
    known: Any, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    connection.close()
    nowhere = {"NAME": "/nowhere/at/all"} if backend == "sqlite" else {"HOST": "127.0.0.1", "PORT": 1}
    patch = pytest.MonkeyPatch()
    for key, value in nowhere.items():
        patch.setitem(connection.settings_dict, key, value)

    # In a burst a worker ends as soon as there is nothing to do: one that took this for an empty queue would end.
    worker = Worker(get_kernel(), WorkerOptions(burst=True, threads=1))
    thread = threading.Thread(target=worker.run, daemon=True)
    try:
        thread.start()
        until(lambda: "waiting for the database" in caplog.text, "the worker says that it waits")
        assert thread.is_alive()
    finally:
        patch.undo()
    thread.join(60)

    assert (thread.is_alive(), worker.runner.finished, status_of(run)) == (False, 1, "COMPLETED")
    assert caplog.text.count("waiting for the database") == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_t37_leases_waits_and_retries_do_not_depend_on_the_sessions_time_zone(
    known: Any, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    @stage("naps")
    def naps(ctx: StageContext[Number]) -> Number:
        ctx.sleep(timedelta(milliseconds=50))
        return ctx.input

    known(define_workflow("naps", input=Number).pipe(naps).build())
    if connection.vendor == "postgresql":
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", zone)
    elif connection.vendor == "mysql":
        offset = {"America/New_York": "-05:00", "Asia/Kolkata": "+05:30"}[zone]
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "init_command", f"SET time_zone = '{offset}'")
    else:
        # SQLite has no time zones: the process's own must not matter either.
        monkeypatch.setenv("TZ", zone)
    forget_zone()
    try:
        run = create_run("naps", {"value": 1})
        with working():
            until(lambda: status_of(run) == "COMPLETED", "the run has ended")
        kernel = get_kernel()
        kernel.dispatch(Beat(worker=facts(), running={}))
        assert kernel.dispatch(ReapStaleLeases()).released == ()
    finally:
        monkeypatch.undo()
        forget_zone()
    row = StageRun.objects.get()
    assert timedelta(0) <= row.finished_at - row.started_at < timedelta(minutes=1)  # type: ignore[operator]
    assert not WorkflowLog.objects.exists()
    check_all()


def forget_zone() -> None:
    """Let the next use of the connection begin anew, in the zone of the settings."""
    connection.close()
    connection.__dict__.pop("timezone", None)
    connection.__dict__.pop("timezone_name", None)
