"""What kept waiting stages, and others because of them, from going on; each was reproduced first."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.hosts.resting import holding
from tests.hosts.working import status_of
from tests.invariants import check_all
from tests.waits import batch, gifts, reminder
from tests.workflows import chain
from workflow_engine import Completion, Output, create_run, pause_run
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import StageContext, Wait, Workflow, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.executors.held import Held
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.sleepers import LEFT_SECONDS
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)


class Away(InMemoryBlobStore):
    """A blob store that can be away."""

    away = False

    def get(self, key: str) -> bytes:
        if self.away:
            raise ConnectionError("the blob store is away")
        return super().get(key)


@pytest.fixture
def store(clock: FakeClock) -> Iterator[Away]:
    """Return the blob store of the kernel that the public functions use."""
    store = Away()
    with use_kernel(create_test_kernel(clock=clock, blobs=store)):
        yield store


def sized() -> Workflow[Any, Any]:
    """A stage with a large output, and one that depends on it."""

    @stage("big")
    def big(ctx: StageContext[None]) -> dict[str, str]:
        return {"text": "x" * 100_000, "kind": "big"}

    @stage("only-big", when=Output(big).kind == "big")
    def only_big(ctx: StageContext[dict[str, str]]) -> int:
        return 1

    return define_workflow("sized").pipe(big).pipe(only_big).build()


def started_by(kernel: Kernel, slots: int = 1) -> list[uuid.UUID]:
    result = kernel.dispatch(StartStages(starter=Starter(uuid.uuid4(), slots=slots)))
    return [item.run_id for item in result.started]


def before_its_condition(kernel: Kernel) -> tuple[WorkflowRun, WorkflowRun]:
    """Return a run whose next stage has a condition, and a run whose first stage is due after that."""
    run, host = create_run("sized"), InlineHost(kernel)
    host.execute(host.take(run.pk)[0])
    other = create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    return run, other


def test_a_condition_that_cannot_be_decided_now_hides_no_other_stage(
    known: Callable[..., Any], db: None, store: Away, clock: FakeClock
) -> None:
    known(sized(), chain(1))
    kernel = get_kernel()
    run, other = before_its_condition(kernel)
    store.away = True

    assert started_by(kernel) == [other.pk]
    assert kernel.dispatch(StartStages(starter=Starter(uuid.uuid4(), slots=1))).deferred == 0, "it is put off"
    store.away = False
    clock.advance(timedelta(seconds=5))
    assert started_by(kernel) == [run.pk]


def test_a_condition_on_an_output_that_is_lost_fails_its_stage(
    known: Callable[..., Any], db: None, store: Away
) -> None:
    known(sized(), chain(1))
    kernel = get_kernel()
    run, other = before_its_condition(kernel)
    for key in store.list(""):
        store.delete(key)

    assert started_by(kernel) == [other.pk]
    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["class"]) == ("FAILED", "CONDITION_FAILED", "BlobNotFound")
    assert "the output of 'big' cannot be read" in run.error["message"]
    check_all()


@pytest.mark.postgresql
def test_a_skip_whose_run_is_held_hides_no_other_stage(known: Callable[..., Any]) -> None:
    known(gifts(), chain(1))
    kernel = get_kernel()
    run, host = create_run("gifts", {"amount": 1}), InlineHost(kernel)
    host.execute(host.take(run.pk)[0])
    other = create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns())

    with holding(run):
        assert started_by(kernel) == [other.pk]
    assert host.drain(run.pk) == 0
    assert StageRun.objects.get(run=run, stage="gift").status == "SKIPPED"


def asking(*, default: bool) -> Workflow[Any, Any]:
    """A stage that waits for an answer for an hour."""
    ask = Wait("ask", bool, max_wait=timedelta(hours=1), **({"default": True} if default else {}))

    @stage("asks", waits=[ask])
    def asks(ctx: StageContext[None]) -> bool:
        return ctx.wait_for(ask)

    return define_workflow("asking").pipe(asks).build()


def renamed() -> Workflow[Any, Any]:
    """``asking`` after a deploy: it has another stage."""

    @stage("asks-anew")
    def asks_anew(ctx: StageContext[None]) -> bool:
        return True

    return define_workflow("asking").pipe(asks_anew).build()


@pytest.mark.parametrize("there", [(), (renamed,)], ids=["no workflow", "no stage"])
def test_overdue_answers_that_the_code_here_does_not_know_hide_nothing(
    kernel: Kernel, host: InlineHost, clock: FakeClock, there: tuple[Callable[[], Any], ...]
) -> None:
    with registry_override(asking(default=False)):
        unknown = [create_run("asking") for _ in range(3)]
        host.drain()
    with registry_override(reminder(), *(make() for make in there)):
        create_run("reminder")
        host.drain()
        clock.advance(timedelta(days=31))

        assert len(kernel.dispatch(WakeSuspendedStages(max=2)).resumed) == 1

    with registry_override(asking(default=False)):
        assert len(kernel.dispatch(WakeSuspendedStages()).failed) == len(unknown)
    check_all()


def test_a_burst_ends_although_an_answer_is_overdue_that_the_code_here_does_not_know() -> None:
    kernel = get_kernel()
    with registry_override(asking(default=False)):
        create_run("asking")
        InlineHost(kernel).drain()
    past = kernel.ports.clock.now() - timedelta(hours=1)
    StageRun.objects.update(wake_at=past, wait_until=past)

    with registry_override(chain(1)):
        run = create_run("chain", {"value": 1})
        worker = Worker(kernel, WorkerOptions(threads=1, burst=True))
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        thread.join(20)
        ended = not thread.is_alive()
        worker.stop()
        thread.join(20)

    assert ended and status_of(run) == "COMPLETED"


@pytest.mark.postgresql
def test_timers_of_runs_that_are_held_hide_no_other(known: Callable[..., Any]) -> None:
    known(reminder())
    kernel, runs = get_kernel(), [create_run("reminder") for _ in range(3)]
    InlineHost(kernel).drain()
    past = kernel.ports.clock.now() - timedelta(hours=1)
    for number, run in enumerate(runs):
        StageRun.objects.filter(run=run).update(wake_at=past + timedelta(seconds=number))

    with holding(*runs[:2]):
        assert len(kernel.dispatch(WakeSuspendedStages(max=2)).resumed) == 1

    assert StageRun.objects.get(run=runs[2]).status == "PENDING"


@pytest.mark.parametrize("why", ["all threads make checks", "its run is paused"])
def test_a_check_that_is_due_and_cannot_be_made_now_is_not_asked_for_without_a_pause(
    known: Callable[..., Any], why: str
) -> None:
    known(batch(Completion.pending), chain(1))
    kernel, host = get_kernel(), InlineHost(get_kernel())
    run = create_run("batch")
    host.drain()
    other = create_run("chain", {"value": 1})
    worker = Worker(kernel, WorkerOptions(threads=1))
    worker.beat()
    if why == "its run is paused":
        pause_run(run)
    else:
        for _ in range(worker.lane.free):
            worker.lane.held.add(Held(replace(host.take(other.pk)[0], token=worker.lane.free + 100)))
            other = create_run("chain", {"value": 1})
    StageRun.objects.filter(run=run).update(wake_at=kernel.ports.clock.now() - timedelta(seconds=0.3))

    assert worker.sleepers.step() == LEFT_SECONDS

    assert StageRun.objects.get(run=run).worker is None


@pytest.mark.postgresql
def test_a_timer_whose_run_is_held_is_ended_soon_after_although_others_were_ended(known: Callable[..., Any]) -> None:
    known(reminder())
    kernel, runs = get_kernel(), [create_run("reminder") for _ in range(2)]
    InlineHost(kernel).drain()
    StageRun.objects.update(wake_at=kernel.ports.clock.now() - timedelta(hours=1))
    worker = Worker(kernel, WorkerOptions(threads=1))
    worker.beat()

    with holding(runs[0]):
        assert worker.sleepers.step() <= 1

    assert StageRun.objects.get(run=runs[1]).status == "PENDING"


def test_a_check_that_shows_its_progress_is_not_taken_for_lost(
    known: Callable[..., Any], kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    found = [Completion.pending(), Completion.ready("done")]

    @stage("submit")
    def submit(ctx: StageContext[None]) -> str:
        ctx.suspend(poll_every=timedelta(seconds=30))

    @submit.check_completion
    def submitted(ctx: StageContext[None], state: None) -> Completion[str]:
        ctx.progress(50, f"{len(found)} to go")
        return found.pop(0)

    known(define_workflow("shows").pipe(submit).build())
    run = create_run("shows")
    host.drain()
    clock.advance(timedelta(seconds=30))
    assert host.drain() == 1

    row = StageRun.objects.get()
    assert (row.status, row.polls, row.worker, row.progress) == (
        "SUSPENDED",
        1,
        None,
        {"percent": 50.0, "message": "2 to go"},
    )
    clock.advance(timedelta(seconds=30))
    host.drain()
    assert status_of(run) == "COMPLETED"
    check_all()
