"""Interleavings of workers, suspects and late attempts that went wrong before they were thought of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from tests.faults.test_database_faults import worker as starter_of
from tests.hosts.working import status_of, working
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.executors.held import Held, HeldStages
from workflow_engine.executors.storage import ScopedStorage
from workflow_engine.hosts import taking
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    CreateRun,
    ReapStaleLeases,
    StartStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import RunData, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.testing import create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_follows_a_suspect_does_not_keep_the_other_slots_empty(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    @stage("suspicious")
    def suspicious(ctx: StageContext[None]) -> None:
        pass

    @stage("long")
    def long(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(60)

    known(define_workflow("w").pipe(suspicious).pipe(long).build(), chain(1))
    create_run("w")
    get_kernel().dispatch(ClaimPendingRuns())
    StageRun.objects.update(suspect=True)
    try:
        with working(threads=4, grace=0):
            assert entered.wait(30)
            good = create_run("chain", {"value": 1})
            until(lambda: status_of(good) == "COMPLETED", "three slots are free")
    finally:
        leave.set()


def test_a_worker_that_made_room_runs_the_suspect_and_not_those_before_it(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(chain(1))
    worker = Worker(get_kernel(), WorkerOptions(threads=4))
    worker.beat()
    create_run("chain", {"value": 1}, priority=0)
    get_kernel().dispatch(ClaimPendingRuns())
    StageRun.objects.update(suspect=True)
    for _ in range(6):
        create_run("chain", {"value": 1}, priority=10)
    get_kernel().dispatch(ClaimPendingRuns())

    assert worker.taker.take(worker._starter(), 1) != []
    monkeypatch.setattr(taking, "SUSPECT_PATIENCE_SECONDS", 0)
    assert worker.taker.take(worker._starter(), 3) == []
    assert [item.alone for item in worker.taker.take(worker._starter(), 0)] == [True]


@pytest.mark.parametrize("when", ["start", "drain", "goodbye"])
def test_a_database_error_at_the_start_or_end_of_a_worker_is_survived(known: Any, when: str) -> None:
    entered, leave, left = threading.Event(), threading.Event(), [1]

    @stage("holds")
    def holds(ctx: StageContext[None]) -> None:
        entered.set()
        leave.wait(30)

    known(define_workflow("w").pipe(holds).build())
    if when == "drain":
        create_run("w")
    worker = Worker(get_kernel(), WorkerOptions(threads=1, grace=0))

    def broken(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        mine = threading.current_thread() is threading.main_thread()
        if mine and left and (when == "start" or worker.is_stopping) and sql.startswith("SELECT") and "stagerun" in sql:
            left.clear()
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    def stop() -> None:
        if when == "drain":
            entered.wait(30)
        else:
            until(WorkerHeartbeat.objects.exists, "the worker has begun")
        connections.close_all()
        worker.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with connection.execute_wrapper(broken):
            worker.run()
    finally:
        leave.set()
        stopper.join(30)

    assert not left
    until(lambda: not any(thread.name == "wfe-beat" for thread in threading.enumerate()), "the beats have ended")


def test_a_worker_whose_own_row_is_gone_still_takes(known: Any) -> None:
    known(chain(1))
    worker = Worker(get_kernel(), WorkerOptions(threads=4))
    worker.beat()
    create_run("chain", {"value": 1})
    WorkerHeartbeat.objects.all().delete()

    assert len(worker.taker.take(worker._starter(), 0)) == 1


def _taken_twice() -> tuple[StartedStage, StartedStage]:
    """Start a stage, lose its lease, and start it again."""
    kernel, me = create_test_kernel(), starter_of(1)
    kernel.dispatch(CreateRun(workflow_id="chain", input={"value": 1}))
    (old,) = kernel.dispatch(ClaimPendingRuns(starter=me)).started
    kernel.dispatch(ReapStaleLeases())
    kernel.ports.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
    (new,) = kernel.dispatch(StartStages(starter=me, idle=True)).started
    return old, new


def test_a_late_attempt_does_not_overwrite_the_storage_of_a_newer_one(known: Any) -> None:
    known(chain(1))
    old, new = _taken_twice()
    blobs = InMemoryBlobStore()
    late, current = ScopedStorage(blobs, Held(old)), ScopedStorage(blobs, Held(new))

    late.save("page", "first")
    assert current.load("page") == "first"
    current.save("page", "new")
    late.save("page", "old")
    late.save("other", b"bytes")

    assert current.load("page") == "new"
    assert current.list() == ["other", "page"]
    current.delete("page")
    assert not current.exists("page")


def test_two_attempts_of_a_stage_in_one_process_count_as_two(known: Any) -> None:
    known(chain(1))
    old, new = _taken_twice()
    held = HeldStages()

    held.add(Held(old))
    held.add(Held(new))

    assert len(held) == 2
    assert held.tokens() == {new.stage_run_id: new.token}


def test_a_run_whose_data_is_gone_fails_alone(known: Any) -> None:
    known(chain(1))
    kernel = create_test_kernel()
    bad, good = (kernel.dispatch(CreateRun(workflow_id="chain", input={"value": 1})).run_id for _ in range(2))
    RunData.objects.filter(pk=bad).delete()

    kernel.dispatch(ClaimPendingRuns())

    assert WorkflowRun.objects.get(pk=good).status == "RUNNING"
    assert WorkflowRun.objects.get(pk=bad).error["code"] == "CLAIM_FAILED"
