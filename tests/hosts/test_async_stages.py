"""Async stages in a worker: they run on the event loop, and neither they nor plain ones take others' places."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from tests.hosts.resting import RESTING, until_it_rests
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import Number, add_stage, chain
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, Stage, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


class Bodies:
    """Counts the bodies that wait in it, until ``go`` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: list[str] = []
        self.inside = self.most = self.cancelled = 0
        self._lock = threading.Lock()

    @property
    def entered(self) -> int:
        return len(self.threads)

    def _enter(self) -> None:
        with self._lock:
            self.threads.append(threading.current_thread().name)
            self.inside += 1
            self.most = max(self.most, self.inside)

    def _leave(self) -> None:
        with self._lock:
            self.inside -= 1

    def stage(self, id: str, **options: Any) -> Stage[Any, Any, Any]:
        """Return a plain stage whose body waits here."""

        @stage(id, **options)
        def holds(ctx: StageContext[Number]) -> Number:
            self._enter()
            self.go.wait(30)
            self._leave()
            return ctx.input

        return holds

    def async_stage(self, id: str, **options: Any) -> Stage[Any, Any, Any]:
        @stage(id, **options)
        async def waits(ctx: StageContext[Number]) -> Number:
            self._enter()
            try:
                while not self.go.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self._leave()
            return ctx.input

        return waits


@pytest.fixture
def bodies() -> Any:
    bodies = Bodies()
    yield bodies
    bodies.go.set()


def flow(id: str, *stages: Stage[Any, Any, Any]) -> Workflow[Any, Any]:
    builder: Any = define_workflow(id, input=Number)
    for item in stages:
        builder = builder.pipe(item)
    return builder.build()  # type: ignore[no-any-return]


def noted(id: str, before: Callable[[], object] = lambda: None) -> Stage[Any, Any, Any]:
    """Return a plain stage that leaves an annotation, so that it is finished alone."""

    @stage(id)
    def body(ctx: StageContext[Number]) -> Number:
        before()
        ctx.annotate("key", 1)
        return ctx.input

    return body


def test_an_async_stage_after_a_plain_one_runs_on_the_event_loop(known: Any, bodies: Bodies) -> None:
    known(flow("mixed", add_stage("first"), bodies.async_stage("waits")))
    bodies.go.set()
    run = create_run("mixed", {"value": 1})

    with working(threads=2):
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    assert bodies.threads == ["wfe-loop"]


def test_the_timeout_of_an_async_stage_after_a_plain_one_is_enforced(known: Any, bodies: Bodies) -> None:
    limits = {"timeout": timedelta(milliseconds=200), "retry": Retry(max_attempts=1)}
    known(flow("mixed", add_stage("first"), bodies.async_stage("waits", **limits)))
    run = create_run("mixed", {"value": 1})

    with working(threads=2):
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    assert status_of(run) == "FAILED"
    assert StageAttempt.objects.get(stage="waits").error_code == "TIMEOUT"


def test_a_cancellation_reaches_an_async_stage_after_a_plain_one(known: Any, bodies: Bodies) -> None:
    known(flow("mixed", add_stage("first"), bodies.async_stage("waits")))
    run = create_run("mixed", {"value": 1})

    with working(threads=2) as worker:
        until(lambda: bodies.entered, "the body is entered")
        cancel_run(run)
        worker.beat()
        until(lambda: bodies.cancelled, "the body is told")

    assert status_of(run) == "CANCELLED"


@pytest.mark.parametrize("together", [True, False])
def test_async_stages_after_plain_ones_take_no_slot(known: Any, bodies: Bodies, together: bool) -> None:
    known(flow("mixed", add_stage("first"), bodies.async_stage("waits")), chain(1))

    with working(threads=2) as worker:
        for number in range(1, 4):
            create_run("mixed", {"value": 1})
            until(lambda: together or bodies.entered == number, "each body is entered")  # noqa: B023
        until(lambda: bodies.entered == 3, "all three bodies wait")
        plain = create_run("chain", {"value": 1})
        until(lambda: status_of(plain) == "COMPLETED", "a plain stage has a slot")
        until(lambda: worker.held.in_slots == 0, "all slots are free again")
        bodies.go.set()
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    check_all()


def test_an_async_stage_that_is_finished_alone_gives_no_slot_away(known: Any, bodies: Bodies) -> None:
    @stage("noted")
    async def notes(ctx: StageContext[Number]) -> Number:
        ctx.annotate("key", 1)
        return ctx.input

    known(flow("holds", bodies.stage("holds")), flow("noted", notes, add_stage("after")))
    create_run("holds", {"value": 1})

    with working(threads=1) as worker:
        until(lambda: bodies.entered, "the only slot is taken")
        run = create_run("noted", {"value": 1})
        until(lambda: StageRun.objects.filter(stage="noted", status="COMPLETED"), "the async stage has ended")
        assert StageRun.objects.get(stage="after").status == "PENDING"
        assert worker.held.in_slots == 1
        bodies.go.set()
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")


def test_stages_that_are_finished_alone_and_together_share_the_slots(known: Any, bodies: Bodies) -> None:
    gate = threading.Barrier(2)

    @stage("before")
    def before(ctx: StageContext[Number]) -> Number:
        gate.wait(30)
        return ctx.input

    middle = [bodies.stage(f"part-{number}") for number in range(4)]
    known(
        define_workflow("wide", input=Number).pipe(before).parallel(*middle).build(),
        flow("noted", noted("noted", before=lambda: gate.wait(30)), bodies.stage("last")),
    )

    with working(threads=2) as worker:
        # Else more may wait for a thread than there are.
        worker.runner.not_quick()
        create_run("wide", {"value": 1})
        create_run("noted", {"value": 1})
        ended = StageRun.objects.filter(stage__in=("before", "noted"), status="COMPLETED")
        until(lambda: ended.count() == 2 and bodies.entered >= 2, "both have ended, and what follows runs")
        assert StageRun.objects.filter(status="RUNNING").count() == 2
        until(lambda: worker.held.in_slots == 2, "nobody has more than a slot")
        bodies.go.set()
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert bodies.most == 2
    check_all()


def test_no_more_async_stages_run_than_there_may(known: Any, bodies: Bodies, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = {"WORKER_ASYNC_STAGES": 2}
    known(flow("mixed", noted("noted"), bodies.async_stage("waits")))

    with working(threads=6):
        for _ in range(12):
            create_run("mixed", {"value": 1})
        ended = StageRun.objects.filter(stage="noted", status="COMPLETED")
        until(lambda: ended.count() == 12 and bodies.entered >= 2, "all plain stages have ended")
        assert StageRun.objects.filter(stage="waits", status="RUNNING").count() == 2
        bodies.go.set()
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert bodies.most == 2


def suspect() -> WorkflowRun:
    """Create a run whose first stage was running when a process died."""
    with transaction.atomic():
        run = create_run("suspicious", {"value": 1})
        get_kernel().dispatch(ClaimPendingRuns(run_id=run.pk))
        StageRun.objects.filter(run=run).update(suspect=True)
    return run


def test_no_async_stage_starts_beside_a_suspect_in_the_only_thread(known: Any, bodies: Bodies, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = RESTING
    beside = Bodies()
    beside.go.set()
    known(flow("suspicious", bodies.stage("suspicious")), flow("waits", beside.async_stage("waits")))
    run = suspect()
    other = create_run("waits", {"value": 1})

    with working(threads=1):
        until(lambda: bodies.entered, "the suspect runs")
        until_it_rests(3)
        assert beside.entered == 0
        bodies.go.set()
        until(lambda: status_of(other) == status_of(run) == "COMPLETED", "both have ended")

    assert StageRun.objects.get(run=run).alone


def test_a_suspect_has_its_turn_on_a_busy_worker_that_knows_async_stages(
    known: Any, bodies: Bodies, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WORKFLOW_ENGINE = RESTING
    beside: list[int] = []
    box: list[Worker] = []

    @stage("suspicious")
    def suspicious(ctx: StageContext[Number]) -> Number:
        beside.append(len(box[0].held))
        return ctx.input

    known(flow("suspicious", suspicious), flow("busy", bodies.stage("busy")), flow("x", bodies.async_stage("waits")))
    monkeypatch.setattr("workflow_engine.hosts.taking.SUSPECT_PATIENCE_SECONDS", 3600)
    with working(threads=3) as worker:
        box.append(worker)
        for _ in range(2):
            create_run("busy", {"value": 1})
        until(lambda: bodies.entered == 2, "two of three slots are taken")
        run = suspect()
        until(lambda: worker.taker._suspect_since is not None, "the suspect is seen")
        create_run("busy", {"value": 1})
        until(lambda: bodies.entered == 3, "all slots are taken")
        until_it_rests(3)
        monkeypatch.setattr("workflow_engine.hosts.taking.SUSPECT_PATIENCE_SECONDS", 0)
        assert worker.taker.makes_room
        create_run("busy", {"value": 1}, priority=10)
        bodies.go.set()
        until(lambda: not WorkflowRun.objects.open().exists(), "all runs have ended")

    assert beside == [1]
    assert StageRun.objects.get(run=run).alone
