"""Interleavings that lost, doubled or stranded work before they were thought of; each was reproduced first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

import workflow_engine.hosts.beating as beating_module
from tests.faults.test_database_faults import unanswered_commit
from tests.faults.test_database_faults import worker as starter_of
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import chain, fan
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.definitions.results import Completed
from workflow_engine.executors.held import Held, Lease
from workflow_engine.executors.recorder import Recorder
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    CreateRun,
    FinishStages,
    Outcome,
    StartStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageRun, WorkerHeartbeat, WorkflowLog
from workflow_engine.models.payloads import inline
from workflow_engine.testing import create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)


class Panic(BaseException):
    """What a panic in a Rust extension raises: no ``Exception``."""


def done(started: StartedStage) -> Outcome:
    return Outcome(started, Completed(inline({"value": 1})), timedelta(0))


@pytest.fixture
def caller() -> Iterator[Callable[[Any], threading.Event]]:
    """Return a function that cancels a run in a transaction which stays open until the event is set."""
    opened: list[tuple[threading.Thread, threading.Event]] = []

    def hold(run_id: Any) -> threading.Event:
        held, release = threading.Event(), threading.Event()

        def body() -> None:
            with transaction.atomic():
                cancel_run(run_id)
                held.set()
                release.wait(60)
            connections.close_all()

        thread = threading.Thread(target=body)
        thread.start()
        opened.append((thread, release))
        assert held.wait(30)
        return release

    yield hold
    for thread, release in opened:
        release.set()
        thread.join(30)


def test_a_body_that_panics_fails_its_stage_and_harms_no_thread(known: Any) -> None:
    @stage("panics", retry=Retry(max_attempts=1))
    def panics(ctx: StageContext[None]) -> None:
        raise Panic("index out of bounds")

    known(define_workflow("w").pipe(panics).build(), chain(1))
    with working(threads=1):
        bad = create_run("w")
        until(lambda: status_of(bad) == "FAILED", "the panic is a failure")
        good = create_run("chain", {"value": 1})
        until(lambda: status_of(good) == "COMPLETED", "the only thread goes on")

    check_all()


def test_a_cancelled_body_that_hangs_frees_its_slot_at_its_timeout(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    @stage("hangs", timeout=timedelta(seconds=1))
    def hangs(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(60)

    known(define_workflow("w").pipe(hangs).build(), chain(1))
    run = create_run("w")
    try:
        with working(threads=1, grace=0) as worker:
            assert entered.wait(30)
            cancel_run(run)
            worker.beat()
            good = create_run("chain", {"value": 1})
            until(lambda: status_of(good) == "COMPLETED", "the slot is free after the timeout")
    finally:
        leave.set()


@pytest.mark.parametrize(
    "text",
    ["SSL SYSCALL error: EOF detected", "disk I/O error", "canceling statement due to statement timeout", "?"],
)
def test_trouble_with_the_database_never_fails_a_stage_that_has_a_result(known: Any, text: str) -> None:
    failing = [1]

    @stage("works", retry=Retry(max_attempts=1))
    def works(ctx: StageContext[None]) -> str:
        def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            if failing and "UPDATE" in sql and "stagerun" in sql:
                failing.clear()
                raise OperationalError(text)
            return execute(sql, params, many, context)

        connection.execute_wrappers.append(broken)
        return "result"

    run = create_run(known(define_workflow("w").pipe(works).build()))
    with working(threads=1):
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    run.refresh_from_db()
    assert not failing
    assert run.get_output() == "result"


@pytest.mark.parametrize("answered", [True, False])
def test_the_recorder_goes_on_after_an_error(known: Any, answered: bool) -> None:
    known(chain(1))
    kernel = create_test_kernel()
    kernel.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    (started,) = kernel.dispatch(ClaimPendingRuns(starter=starter_of(1))).started
    recorder, held, left = Recorder(kernel.ports), Held(started), [1]

    def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if left and sql.startswith("UPDATE") and "progress" in sql:
            left.clear()
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    recorder.log(held, "INFO", "first", {})
    recorder.progress(held, {"percent": 1})
    with connection.execute_wrapper(broken) if answered else unanswered_commit():
        recorder.flush()
    for number in range(3):
        recorder.log(held, "INFO", f"later {number}", {})
        recorder.flush()

    messages = list(WorkflowLog.objects.order_by("id").values_list("message", flat=True))
    # A line whose COMMIT was not answered may stand there twice; none is missing.
    assert messages[-4:] == ["first", "later 0", "later 1", "later 2"]
    assert len(messages) == (4 if answered else 5)
    assert StageRun.objects.get().progress == {"percent": 1}


@pytest.mark.postgresql
def test_a_run_that_somebody_holds_locked_stops_nobody_elses_finish(known: Any, caller: Any) -> None:
    entered, go, leave = threading.Event(), threading.Event(), threading.Event()

    @stage("slow")
    def slow(ctx: StageContext[None]) -> None:
        entered.set()
        go.wait(30)
        ctx.progress(50)
        leave.wait(30)

    known(define_workflow("w").pipe(slow).build(), chain(1))
    run = create_run("w")
    try:
        with working(threads=2, grace=0):
            assert entered.wait(30)
            release = caller(run.pk)
            go.set()
            good = create_run("chain", {"value": 1})
            until(lambda: status_of(good) == "COMPLETED", "a run that nobody locked is finished")
            release.set()
    finally:
        leave.set()


@pytest.mark.postgresql
def test_a_locked_run_hides_no_due_stage_behind_it_and_stops_no_beat(known: Any, caller: Any) -> None:
    known(chain(1))
    first, second = create_run("chain", {"value": 1}), create_run("chain", {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns())
    worker = Worker(get_kernel(), WorkerOptions(threads=2))
    worker.beat()
    caller(first.pk)

    (started,) = get_kernel().dispatch(StartStages(starter=worker._starter())).started
    assert started.run_id == second.pk
    caller(second.pk)
    # The stage does not run here, so two beats give it back; they must not wait for the caller's transaction.
    worker.beat()
    worker.beat()

    assert StageRun.objects.get(run=second).status == "RUNNING"


def test_stages_survive_a_database_that_was_away_for_longer_than_the_lease(known: Any) -> None:
    known(chain(1))
    worker = Worker(get_kernel(), WorkerOptions(threads=1))
    worker.beat()
    create_run("chain", {"value": 1})
    (started,) = worker.taker.take(worker._starter(), 0)
    worker.held.add(Held(started))
    WorkerHeartbeat.objects.update(lease_until=timezone.now() - timedelta(seconds=60))
    worker.lease.renewed(time.monotonic() - 90)

    tick = next(loop for loop in worker._loops() if loop.name == "tick")
    tick.turn()
    worker.beat()
    tick.turn()

    row = StageRun.objects.get()
    assert (row.status, row.crashes, row.suspect) == ("RUNNING", 0, False)


def test_a_worker_whose_lease_is_over_takes_nothing(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    over = [True]
    monkeypatch.setattr(Lease, "is_over", property(lambda self: bool(over)))
    run = create_run(known(chain(1)), {"value": 1})
    with working(threads=2) as worker:
        until(WorkerHeartbeat.objects.exists, "the worker has begun")
        for _ in range(3):
            # Rounds of the taking loop, which looks every 0.3 s at the latest.
            worker.kernel.ports.transport.pop(0.5)
        assert status_of(run) == "PENDING"
        over.clear()
        until(lambda: status_of(run) == "COMPLETED", "it takes again when it can beat")


def test_a_drain_gives_back_also_what_a_finish_under_way_has_started(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave, asked = threading.Event(), threading.Event(), threading.Event()
    box: list[Worker] = []

    @stage("one")
    def one(ctx: StageContext[None]) -> None:
        pass

    @stage("two")
    def two(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(30)

    real = beating_module.Beat

    def beaten(**options: Any) -> Any:
        if box and box[0].is_stopping and options["running"] == {}:
            asked.set()
        return real(**options)

    def hook(point: str) -> None:
        if point == points.COMPLETE_IN_TX and not asked.is_set():
            box[0].stop()
            # SQLite has one writer: there the drain cannot ask before this transaction ends.
            asked.wait(10 if connection.vendor != "sqlite" else 0.2)

    create_run(known(define_workflow("w").pipe(one).pipe(two).build()))
    monkeypatch.setattr(beating_module, "Beat", beaten)
    before = points.install(hook)
    try:
        with working(threads=1, grace=0) as worker:
            box.append(worker)
            until(lambda: worker.is_stopping, "the worker is stopping")
    finally:
        points.install(before)
        leave.set()

    # Where the finish is one statement, the drain was quicker: then it has given back the first stage.
    left = dict(StageRun.objects.values_list("stage", "status"))
    assert left in ({"one": "COMPLETED", "two": "PENDING"}, {"one": "PENDING"})
    check_all()


def test_an_unanswered_finish_does_not_take_what_a_siblings_thread_has_started(known: Any) -> None:
    known(fan(2))
    engine, me = create_test_kernel(), starter_of(2)
    engine.dispatch(CreateRun(workflow_id="fan", input={"value": 1}))
    (first,) = engine.dispatch(ClaimPendingRuns(starter=me)).started
    engine.dispatch(FinishStages(outcomes=(done(first),)))
    a, b = engine.dispatch(StartStages(starter=me)).started
    seen: list[Any] = []
    database = connections["default"]
    real = database._commit  # type: ignore[attr-defined]

    def finish_b() -> None:
        seen.extend(engine.dispatch(FinishStages(outcomes=(done(b),), starter=me)).finished)
        connections.close_all()

    def commit() -> None:
        database._commit = real  # type: ignore[attr-defined]
        real()
        other = threading.Thread(target=finish_b)
        other.start()
        other.join()
        raise OperationalError("server closed the connection unexpectedly")

    database._commit = commit  # type: ignore[attr-defined]
    (finished,) = engine.dispatch(FinishStages(outcomes=(done(a),), starter=me)).finished

    assert [item.stage_id for item in seen[0].next] == ["total"]
    assert (finished.kind, finished.next) == ("completed", ())


def test_a_finish_that_landed_while_the_database_went_away_goes_on_with_the_next_stage(known: Any) -> None:
    went_on = threading.Event()

    @stage("one")
    def one(ctx: StageContext[None]) -> None:
        database = connections["default"]
        real, away = database._commit, [0]  # type: ignore[attr-defined]

        def commit() -> None:
            database._commit = real  # type: ignore[attr-defined]
            real()
            away[0] = 4
            raise OperationalError("server closed the connection unexpectedly")

        def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            if away[0] > 0:
                away[0] -= 1
                raise OperationalError("connection refused")
            return execute(sql, params, many, context)

        database.execute_wrappers.append(broken)
        database._commit = commit  # type: ignore[attr-defined]

    @stage("two")
    def two(ctx: StageContext[None]) -> None:
        went_on.set()

    run = create_run(known(define_workflow("w").pipe(one).pipe(two).build()))
    with working(threads=1):
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert went_on.is_set()
    assert StageRun.objects.get(stage="two").attempt == 1
    check_all()


def test_a_first_stage_that_this_code_does_not_have_strands_nobody(known: Any) -> None:
    @stage("new-name")
    def new(ctx: StageContext[None]) -> None:
        pass

    @stage("old-name")
    def old(ctx: StageContext[None]) -> None:
        pass

    with registry_override(define_workflow("w").pipe(new).build()):
        bad = create_run("w")
    known(define_workflow("w").pipe(old).build(), chain(1))
    good = create_run("chain", {"value": 1})
    with working(threads=4):
        until(lambda: status_of(good) == "COMPLETED", "the good run of the same take")

    assert StageRun.objects.get(run=bad).attempt == 0


def test_a_conflict_in_the_third_claim_keeps_what_the_first_two_started(known: Any) -> None:
    known(chain(1))
    kernel, claims = create_test_kernel(), []
    for _ in range(3):
        kernel.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))

    def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT" in sql and "stagerun" in sql:
            claims.append(1)
            # The try with all three together, and then the third alone.
            if len(claims) == 1 or len(claims) >= 4:
                raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(broken):
        result = kernel.dispatch(ClaimPendingRuns(starter=starter_of(3)))

    assert len(result.started) == 2
