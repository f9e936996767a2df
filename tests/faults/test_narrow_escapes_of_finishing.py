"""What kept results from being stored, or other stages from being finished and started meanwhile."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import InternalError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

import workflow_engine.kernel.commands.start_stages as start_stages
from tests.faults.test_database_faults import worker as starter_of
from tests.faults.test_narrow_escapes import done
from tests.hosts.resting import holding
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import Number, chain, fan
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.results import Completed
from workflow_engine.executors.held import Held
from workflow_engine.executors.recorder import Recorder
from workflow_engine.hosts.finisher import Ended
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, FinishStages, ReleaseStages, StartStages
from workflow_engine.models import RunData, StageAttempt, StageRun, WorkerHeartbeat
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
KEPT = "result kept for later"


class Body:
    """A body that waits until it may end; ``attempts`` has the numbers of those that entered it."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.go = threading.Event()

    def flow(self) -> Workflow[Any, Any]:
        @stage("holds", retry=Retry(max_attempts=1))
        def holds(ctx: StageContext[Number]) -> Number:
            self.attempts.append(ctx.attempt)
            self.go.wait(30)
            return ctx.input

        return define_workflow("holds", input=Number).pipe(holds).build()


@pytest.fixture
def body() -> Iterator[Body]:
    body = Body()
    yield body
    body.go.set()


@contextmanager
def read_only_server() -> Iterator[None]:
    """As after a fail-over: all connections but this one are cut, and new ones meet a server that does not write."""
    try:
        _set_read_only("on")
        yield
    finally:
        _set_read_only("off")


def _set_read_only(value: str) -> None:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.postgresql
def test_a_result_is_kept_as_long_as_the_server_is_read_only(
    known: Any, body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    run = create_run(known(body.flow()), {"value": 1})

    with working(threads=2) as worker:
        until(lambda: body.attempts, "the body is entered")
        with read_only_server():
            body.go.set()
            until(lambda: KEPT in caplog.text, "it was tried to store the result")
            assert len(worker.held) == 1
        until(lambda: status_of(run) != "RUNNING", "the run has ended")

    assert (status_of(run), body.attempts) == ("COMPLETED", [1])
    check_all()


def test_a_server_that_was_read_only_for_a_moment_fails_no_stage(known: Any) -> None:
    failing = [1]

    @stage("works", retry=Retry(max_attempts=1))
    def works(ctx: StageContext[None]) -> str:
        def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            if failing and "UPDATE" in sql and "stagerun" in sql:
                failing.clear()
                raise InternalError("cannot execute UPDATE in a read-only transaction")
            return execute(sql, params, many, context)

        connection.execute_wrappers.append(broken)
        return "result"

    run = create_run(known(define_workflow("w").pipe(works).build()))
    with working(threads=1):
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    run.refresh_from_db()
    assert not failing
    assert run.get_output() == "result"


def test_a_result_is_kept_while_the_database_is_away_for_longer_than_a_lease(
    known: Any, body: Body, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away, cursor = threading.Event(), BaseDatabaseWrapper.cursor

    def cursor_unless_away(database: BaseDatabaseWrapper) -> Any:
        if away.is_set() and threading.current_thread() is not threading.main_thread():
            raise OperationalError("connection refused")
        return cursor(database)

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", cursor_unless_away)
    run = create_run(known(body.flow()), {"value": 1})

    with working(threads=2, orchestrate=False) as worker:
        until(lambda: body.attempts, "the body is entered")
        away.set()
        body.go.set()
        until(lambda: KEPT in caplog.text, "it was tried to store the result")
        worker.lease.renewed(sent_at=-1e9)
        WorkerHeartbeat.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
        away.clear()
        until(lambda: status_of(run) != "RUNNING", "the run has ended")

    assert (status_of(run), body.attempts) == ("COMPLETED", [1])
    assert [item.outcome for item in StageAttempt.objects.all()] == ["completed"]


def test_whatever_the_recorder_raises_the_results_are_stored(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Recorder._write
    raised: list[int] = []

    def write_later(recorder: Recorder, lines: list[Any]) -> None:
        if lines and not raised:
            raised.append(len(lines))
            raise RuntimeError("a driver's bug")
        write(recorder, lines)

    @stage("logs")
    def logs(ctx: StageContext[Number]) -> Number:
        ctx.log.info("line")
        return ctx.input

    monkeypatch.setattr(Recorder, "_write", write_later)
    run = create_run(known(define_workflow("logs", input=Number).pipe(logs).build()), {"value": 1})
    with working(threads=1):
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert raised


@pytest.mark.postgresql
def test_async_stages_whose_runs_are_held_leave_the_threads_to_plain_ones(known: Any) -> None:
    go = threading.Event()
    entered: list[int] = []

    @stage("waits")
    async def waits(ctx: StageContext[Number]) -> Number:
        entered.append(ctx.attempt)
        while not go.is_set():
            await asyncio.sleep(0.01)
        return ctx.input

    known(define_workflow("waits", input=Number).pipe(waits).build(), chain(1))
    runs = [create_run("waits", {"value": 1}) for _ in range(4)]
    with working(threads=2) as worker:
        until(lambda: len(entered) == 4, "all async bodies are entered")
        with holding(*runs):
            go.set()
            for _ in range(4):
                plain = create_run("chain", {"value": 1})
                until(lambda: status_of(plain) == "COMPLETED", "a plain stage has a thread")  # noqa: B023
            until(lambda: (len(worker.held), worker.held.in_slots) == (4, 0), "only the async ones are left")
        until(lambda: {status_of(run) for run in runs} == {"COMPLETED"}, "the async ones are finished afterwards")

    check_all()


@pytest.mark.postgresql
def test_taking_that_meets_a_conflict_and_a_held_run_stops_no_finish(
    known: Any, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, conflict = start_stages._start_together, threading.Event()

    def start_in_conflict(*args: Any) -> Any:
        result = start(*args)
        if not conflict.is_set():
            conflict.set()
            raise OperationalError("deadlock detected")
        return result

    known(body.flow(), chain(1))
    later = create_run("chain", {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns())
    in_an_hour = timezone.now() + timedelta(hours=1)
    StageRun.objects.update(due_at=in_an_hour, rank_at=in_an_hour)
    first = create_run("holds", {"value": 1})
    with working(threads=2):
        until(lambda: body.attempts, "a body is entered")
        monkeypatch.setattr(start_stages, "_start_together", start_in_conflict)
        with holding(later):
            now = timezone.now()
            StageRun.objects.filter(run=later).update(due_at=now, rank_at=now)
            until(conflict.is_set, "a conflict while taking")
            body.go.set()
            until(lambda: status_of(first) == "COMPLETED", "it is finished while the other run is held")
        until(lambda: status_of(later) == "COMPLETED", "the other one is taken afterwards")


def test_a_run_that_cannot_begin_keeps_nobody_else_from_being_claimed(known: Any) -> None:
    known(chain(1))
    bad = create_run("chain", {"value": 1})
    RunData.objects.filter(pk=bad.pk).update(plan={"groups": [{"stages": [{"id": "add-1", "queue": None}]}]})
    good = create_run("chain", {"value": 1})

    with working(threads=2):
        until(lambda: status_of(good) == "COMPLETED", "the good one has ended")


def test_a_stage_that_cannot_start_keeps_nobody_else_from_starting(known: Any) -> None:
    known(chain(1))
    bad, good = create_run("chain", {"value": 1}), create_run("chain", {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns())
    StageRun.objects.filter(run=bad).update(group_number=2)
    RunData.objects.filter(pk=bad.pk).update(plan={})

    with working(threads=2):
        until(lambda: status_of(good) == "COMPLETED", "the good one has ended")

    assert StageRun.objects.get(run=bad).due_at > timezone.now()


def test_a_batch_whose_commit_was_not_answered_knows_the_siblings_that_it_started(known: Any) -> None:
    known(fan(4))
    create_run("fan", {"value": 1})
    kernel, me, causation = get_kernel(), starter_of(1), uuid.uuid4()
    (first,) = kernel.dispatch(ClaimPendingRuns(starter=me)).started
    (a,) = kernel.dispatch(FinishStages(outcomes=(done(first),), starter=me)).finished[0].next
    batch = FinishStages(outcomes=(done(a),), starter=me, together=True)
    (landed,) = kernel.dispatch(batch, causation_id=causation).finished

    # The answer was lost, so each is asked about alone.
    again = FinishStages(outcomes=(done(a),), starter=me, again=True)
    (asked,) = kernel.dispatch(again, causation_id=causation).finished

    assert len(landed.next) == 1
    assert [item.pk for item in asked.next] == [item.pk for item in landed.next]


def released_and_taken_again(kernel: Kernel, me: Starter) -> tuple[Any, Any]:
    """Start the first stage of a run, give it back and start it again: two attempts of one stage in one process."""
    (old,) = kernel.dispatch(ClaimPendingRuns(starter=me)).started
    kernel.dispatch(ReleaseStages(worker_id=me.worker_id, tokens={old.pk: old.token}))
    (new,) = kernel.dispatch(StartStages(starter=me)).started
    return old, new


@pytest.mark.parametrize("newest_first", [True, False])
def test_two_attempts_of_one_stage_that_end_together_store_the_newer_one(known: Any, newest_first: bool) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})
    worker = Worker(get_kernel(), WorkerOptions(threads=2))
    worker.beat()
    old, new = released_and_taken_again(worker.kernel, worker._starter())
    ended = [
        Ended(held, Completed(inline({"value": value})), timedelta(0))
        for held, value in ((Held(new), 10), (Held(old), 99))
    ]
    for item in ended:
        worker.held.add(item.held)

    worker.runner.launch(worker.runner.finisher._finish(ended if newest_first else ended[::-1]))
    until(lambda: len(worker.held) == 0, "nothing runs here any more")
    worker.runner.stop()

    assert StageRun.objects.get(stage="add-1").output == inline({"value": 10})
    # Running nowhere, the second one would lie there until the worker has missed it twice.
    assert StageRun.objects.get(stage="add-2").status in ("PENDING", "COMPLETED")
