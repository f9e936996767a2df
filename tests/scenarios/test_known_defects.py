"""Situations in which an engine of this kind loses, kills, doubles or stalls work: P1 to P6 of the comparison page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.dying import die_at
from tests.invariants import check_all, events
from tests.janitors import pass_time, worker
from workflow_engine import Completion, StageContext, Wait, answer_stage, create_run, define_workflow, stage
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel, points
from workflow_engine.kernel.commands import ClaimPendingRuns, ReapStaleLeases
from workflow_engine.kernel.ports import WorkerFacts
from workflow_engine.models import IdempotencyKey, OutboxEvent, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

OVER = timedelta(seconds=41)  # a lease of 30 s and one beat of 10 s
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
PAUSE = 36 * HOUR
LARGE = 100_000


@pytest.fixture
def entered() -> Counter[str]:
    """How often each body was entered."""
    return Counter()


@pytest.fixture(autouse=True)
def line(known: Callable[..., Any], entered: Counter[str]) -> Workflow[Any, Any]:
    """make -> use; the output of ``make`` is a blob that says which attempt has made it."""

    @stage("make")
    def make(ctx: StageContext[None]) -> str:
        entered["make"] += 1
        return str(ctx.attempt) * LARGE

    @stage("use")
    def use(ctx: StageContext[str]) -> str:
        entered["use"] += 1
        return f"made by attempt {ctx.input[0]}"

    workflow: Workflow[Any, Any] = known(define_workflow("line").pipe(make).pipe(use).build())
    return workflow


def facts(host: InlineHost) -> WorkerFacts:
    return replace(worker({}), id=host.worker_id)


def ticks(kernel: Kernel, clock: FakeClock, span: timedelta, step: timedelta, *workers: WorkerFacts) -> None:
    """Let ``span`` pass, in steps after each of which these workers beat and every step of a tick has its turn."""
    for _ in range(span // step):
        pass_time(kernel, clock, step, *workers)
        Orchestrator(kernel, claims=False).tick()


def ended_once(run: WorkflowRun) -> Any:
    """Return the output of a run that has ended as it should, with one completion of each stage."""
    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error
    assert [kind for kind in events(run) if kind in ("stage.completed", "run.completed", "run.failed")] == [
        "stage.completed",
        "stage.completed",
        "run.completed",
    ]
    check_all()
    return run.get_output()


@pytest.mark.parametrize(
    ("point", "times"), [(points.COMPLETE_BEFORE, 2), (points.COMPLETE_IN_TX, 2), (points.COMPLETE_AFTER, 1)]
)
def test_p01_a_worker_that_dies_around_the_end_of_a_stage_leaves_a_run_that_goes_on(
    kernel: Kernel, host: InlineHost, clock: FakeClock, entered: Counter[str], point: str, times: int
) -> None:
    run = create_run("line")
    pass_time(kernel, clock, timedelta(0), facts(host))
    (started,) = host.take()
    die_at(point, lambda: host.execute(started))

    ticks(kernel, clock, timedelta(minutes=20), timedelta(minutes=5))

    assert WorkflowRun.objects.get().status == "RUNNING"
    InlineHost(kernel).drain()
    assert ended_once(run) == f"made by attempt {times}"
    assert entered == {"make": times, "use": 1}


@pytest.mark.parametrize("kind", ["poll", "answer", "timer"])
def test_p02_a_stage_that_is_suspended_for_a_month_is_on_schedule_and_fails_nobody(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock, kind: str
) -> None:
    ask, ready_at, checks = Wait("ask", str), clock.now() + 30 * DAY, []

    @stage("waits", waits=[ask])
    def waits(ctx: StageContext[None]) -> str:
        if kind == "answer":
            return ctx.wait_for(ask)
        if kind == "timer":
            ctx.sleep(30 * DAY)
            return "done"
        ctx.suspend(None, poll_every=PAUSE, max_wait=60 * DAY)

    @waits.check_completion
    def check(ctx: StageContext[None], state: None) -> Completion[str]:
        checks.append(clock.now())
        return Completion.ready("done") if clock.now() >= ready_at else Completion.pending()

    run = create_run(known(define_workflow("waiting").pipe(waits).build()))
    host.drain()
    while clock.now() < ready_at:
        ticks(kernel, clock, PAUSE, PAUSE, facts(host))
        assert StageRun.objects.get().status == "SUSPENDED"
        host.drain()
    if kind == "answer":
        answer_stage(run, waits, "done")
        host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", "done")
    assert len(checks) == (20 if kind == "poll" else 0)
    check_all()


def test_p03_a_backlog_of_an_hour_without_any_worker_fails_nobody(kernel: Kernel, clock: FakeClock) -> None:
    begun, waiting = [create_run("line") for _ in range(3)], [create_run("line") for _ in range(3)]
    for run in begun:
        kernel.dispatch(ClaimPendingRuns(run_id=run.pk))

    ticks(kernel, clock, HOUR, timedelta(minutes=10))

    assert [WorkflowRun.objects.get(pk=run.pk).status for run in begun] == ["RUNNING"] * 3
    assert [WorkflowRun.objects.get(pk=run.pk).status for run in waiting] == ["PENDING"] * 3
    InlineHost(kernel).drain()
    assert {ended_once(run) for run in begun + waiting} == {"made by attempt 1"}


def test_p04_a_stage_that_runs_for_a_day_under_a_live_lease_completes(
    kernel: Kernel, host: InlineHost, clock: FakeClock, entered: Counter[str]
) -> None:
    run = create_run("line")
    pass_time(kernel, clock, timedelta(0), facts(host))
    (started,) = host.take()

    ticks(kernel, clock, DAY, 2 * HOUR, facts(host))

    (following,) = host.execute(started).next
    host.execute(following)
    assert ended_once(run) == "made by attempt 1"
    assert entered == {"make": 1, "use": 1}


def test_p05_a_zombie_that_finishes_after_its_stage_was_done_again_changes_nothing(
    kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run("line")
    (late,) = host.take()
    clock.advance(OVER)
    kernel.dispatch(ReapStaleLeases())
    clock.advance(timedelta(minutes=1))
    other = InlineHost(kernel)
    (following,) = other.execute(other.take()[0]).next
    made = StageRun.objects.get(stage="make")
    blob, told = made.get_output(), events(run)
    assert (WorkflowRun.objects.get().status, following.stage_id) == ("RUNNING", "use")

    assert host.execute(late).kind == "ghost"

    row = StageRun.objects.get(stage="make")
    assert (row.output, row.token, row.get_output(), events(run)) == (made.output, made.token, blob, told)
    assert blob == "2" * LARGE
    # The zombie has written a blob too: under a key of its own.
    assert sorted(kernel.ports.blobs.get(key)[1:2] for key in kernel.ports.blobs.list("")) == [b"1", b"2"]
    other.execute(following)
    assert ended_once(run) == "made by attempt 2"


@pytest.mark.parametrize(("point", "made"), [(points.CREATE_IN_TX, 0), (points.CREATE_AFTER, 1)])
def test_p06_a_client_that_retries_its_key_after_a_crash_has_one_run(
    kernel: Kernel, clock: FakeClock, point: str, made: int
) -> None:
    die_at(point, lambda: create_run("line", idempotency_key="order-7"))
    assert WorkflowRun.objects.count() == made
    for _ in range(3):
        ticks(kernel, clock, QUARTER, QUARTER)

        create_run("line", idempotency_key="order-7")

    assert WorkflowRun.objects.count() == IdempotencyKey.objects.count() == 1
    assert OutboxEvent.objects.filter(type="run.created").count() == 1
    check_all()
