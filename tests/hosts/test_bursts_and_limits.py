"""Bursts end when nothing is due and not before; a worker takes no more than it may and no more than fits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from tests.hosts.resting import RESTING, holding, until_it_rests
from tests.hosts.working import status_of, working
from tests.waiting import until
from tests.workflows import Number, add_stage, chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.stages import DEFAULT_QUEUE
from workflow_engine.executors.held import Lease
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.kernel.unit_of_work import UnitOfWork
from workflow_engine.models import RunData, StageAttempt, StageRun, WorkerHeartbeat, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


class Job(threading.Thread):
    """A job of somebody else's worker, which does what is due."""

    def __init__(self, **options: Any) -> None:
        super().__init__(daemon=True)
        self.options, self.done = options, -1

    def run(self) -> None:
        self.done = process_available_jobs(**self.options)
        connections.close_all()


def on_loop() -> Workflow[Any, Any]:
    @stage("waits")
    async def waits(ctx: StageContext[Number]) -> Number:
        return ctx.input

    return define_workflow("waits", input=Number).pipe(waits).build()


def elsewhere() -> Workflow[Any, Any]:
    return define_workflow("elsewhere", input=Number).pipe(add_stage("there", queue="elsewhere")).build()


both = pytest.mark.parametrize("others", [(), (on_loop,)], ids=["plain stages", "async stages too"])


@both
@pytest.mark.parametrize("before", [1, 101])
def test_a_burst_of_one_queue_gets_past_the_runs_of_another(known: Any, before: int, others: Sequence[Any]) -> None:
    known(elsewhere(), chain(1), *(make() for make in others))
    for _ in range(before):
        create_run("elsewhere", {"value": 1})
    mine = create_run("chain", {"value": 1})

    done = process_available_jobs(queues=[DEFAULT_QUEUE])

    assert (done, status_of(mine)) == (1, "COMPLETED")


@both
def test_a_burst_gets_past_a_run_that_cannot_begin(known: Any, others: Sequence[Any]) -> None:
    known(chain(1), *(make() for make in others))
    bad = create_run("chain", {"value": 1})
    RunData.objects.filter(pk=bad.pk).update(plan={"groups": []})
    good = create_run("chain", {"value": 1})

    done = process_available_jobs()

    assert (done, status_of(bad), status_of(good)) == (1, "FAILED", "COMPLETED")


@pytest.mark.postgresql
def test_a_burst_waits_for_a_run_that_somebody_holds_for_a_moment(known: Any, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = RESTING
    known(chain(1))
    run = create_run("chain", {"value": 1})
    job = Job()

    with holding(run):
        job.start()
        until_it_rests(2)
    job.join(30)

    assert (job.done, status_of(run)) == (1, "COMPLETED")


def test_a_burst_does_not_end_because_its_lease_is_over(
    known: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WORKFLOW_ENGINE = RESTING
    over = [True]
    monkeypatch.setattr(Lease, "is_over", property(lambda self: bool(over)))
    known(chain(1))
    create_run("chain", {"value": 1})
    job = Job()

    job.start()
    until_it_rests(2)
    over.clear()
    job.join(30)

    assert job.done == 1


def test_a_burst_sees_what_fell_due_between_its_look_and_the_question_whether_it_is_done(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    is_done = Worker._is_done

    @stage("fails-once", retry=Retry(max_attempts=2, initial=timedelta(0)))
    def fails_once(ctx: StageContext[Number]) -> Number:
        begun.set()
        if ctx.attempt == 1:
            go.wait(30)
            raise ValueError("once")
        return ctx.input

    run = create_run(known(define_workflow("w", input=Number).pipe(fails_once).build()), {"value": 1})
    worker = Worker(get_kernel(), WorkerOptions(burst=True, threads=2, orchestrate=False))

    def asked_late(worker: Worker, took: bool) -> bool:
        if begun.is_set() and not took and not go.is_set():
            go.set()
            until(lambda: len(worker.held) == 0, "the first attempt has ended")
        return is_done(worker, took)

    monkeypatch.setattr(Worker, "_is_done", asked_late)
    finished = worker.run()

    assert go.is_set()
    assert (finished, status_of(run)) == (2, "COMPLETED")


def test_the_last_body_within_max_jobs_is_waited_for_and_not_given_back(known: Any, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = {"GRACE_SECONDS": 0, "BEAT_SECONDS": 0.1, "LEASE_SECONDS": 10}
    entered, leave = threading.Event(), threading.Event()

    @stage("slow")
    def slow(ctx: StageContext[Number]) -> Number:
        entered.set()
        leave.wait(30)
        return ctx.input

    run = create_run(known(define_workflow("slow", input=Number).pipe(slow).build()), {"value": 1})
    job = Job(max_jobs=1)

    job.start()
    assert entered.wait(30)
    for _ in range(3):
        last = WorkerHeartbeat.objects.get()
        until(lambda: WorkerHeartbeat.objects.get().lease_until != last.lease_until, "a beat")  # noqa: B023
    leave.set()
    job.join(30)

    assert (job.done, status_of(run)) == (1, "COMPLETED")
    assert StageAttempt.objects.get().outcome == "completed"


def test_max_jobs_bounds_also_the_stages_of_one_run(known: Any) -> None:
    known(chain(10))
    create_run("chain", {"value": 1})

    done = process_available_jobs(max_jobs=3)

    assert (done, StageAttempt.objects.count()) == (3, 3)
    assert process_available_jobs() == 7


def test_one_free_slot_claims_one_run(known: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    @stage("holds")
    def holds(ctx: StageContext[Number]) -> Number:
        entered.set()
        leave.wait(30)
        return ctx.input

    known(define_workflow("holds", input=Number).pipe(holds).build())
    for _ in range(20):
        create_run("holds", {"value": 1})

    with working(threads=1):
        assert entered.wait(30)
        assert WorkflowRun.objects.filter(status="RUNNING").count() == 1
        leave.set()


def test_one_free_slot_locks_one_run(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = UnitOfWork.lock_hot
    locked: list[int] = []

    def counting(work: UnitOfWork, ids: Any, **options: Any) -> Any:
        locked.append(len(ids))
        return lock(work, ids, **options)

    known(chain(1))
    for _ in range(20):
        create_run("chain", {"value": 1})
    get_kernel().dispatch(ClaimPendingRuns(max_claims=20))
    worker = Worker(get_kernel(), WorkerOptions(threads=1))
    worker.beat()
    monkeypatch.setattr(UnitOfWork, "lock_hot", counting)

    taken = worker.taker.take(worker._starter(), 0)

    assert (len(taken), locked) == (1, [1])
    assert StageRun.objects.filter(status="RUNNING").count() == 1
