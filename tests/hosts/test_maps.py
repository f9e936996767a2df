"""Maps and child runs in a worker: real threads, real clock, waiting on conditions only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.families import Family
from tests.hosts.resting import RINGING
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.maps import Importer, Summary
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import cancel_run, create_run, pause_run, resume_run
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


def in_status(run: WorkflowRun, status: str) -> int:
    return StageRun.objects.filter(run=run, map_index__gte=0, status=status).count()


class Hanging:
    """A workflow whose items hang until they are let go."""

    def __init__(self, **options: Any) -> None:
        self.let_go = threading.Event()

        @stage("hang", **options)
        def hang(ctx: StageContext[int]) -> int:
            while not self.let_go.wait(0.02):
                ctx.raise_if_cancelled()
            return ctx.input

        self.workflow = define_workflow("hanging", input=list[int]).map(hang, max_parallel=50).build()


@pytest.fixture
def hanging(known: Any) -> Iterator[Hanging]:
    made = Hanging()
    known(made.workflow, chain(3))
    yield made
    made.let_go.set()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_worker_does_all_items_and_gives_their_results_in_order(known: Any, threads: int) -> None:
    importer = Importer()
    run = create_run(known(importer.workflow), 150)

    with working(threads=threads):
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert Summary.model_validate(run.get_output()).outputs == [number * 10 for number in range(150)]
    assert set(importer.entered.values()) == {1}
    check_all()


def test_items_that_fail_and_are_tried_again_come_to_their_end(known: Any) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {3, 50, 99}
    run = create_run(known(importer.workflow), 100)

    with working():
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert Summary.model_validate(run.get_output()).failed == [3, 50, 99]
    check_all()


def test_short_runs_go_on_while_every_item_hangs(hanging: Hanging) -> None:
    run = create_run("hanging", list(range(40)))

    with working(threads=4):
        until(lambda: in_status(run, "RUNNING") >= 3, "the items have taken what they may")
        short = [create_run("chain", {"value": number}) for number in range(5)]
        until(lambda: all(status_of(one) == "COMPLETED" for one in short), "the short runs have ended")
        assert in_status(run, "COMPLETED") == 0
        hanging.let_go.set()
        until(lambda: status_of(run) == "COMPLETED", "the map has ended")

    check_all()


def test_a_worker_that_drains_gives_items_back_and_another_does_them(hanging: Hanging) -> None:
    run = create_run("hanging", list(range(12)))
    with working(threads=4, grace=0.2) as first:
        until(lambda: in_status(run, "RUNNING") >= 3, "items run")
        first.stop()
    until(lambda: in_status(run, "RUNNING") == 0, "nothing is held any more")
    hanging.let_go.set()

    with working(threads=4):
        until(lambda: status_of(run) == "COMPLETED", "the map has ended")

    rows = StageRun.objects.filter(run=run, map_index__gte=0)
    # What was given back has cost nothing of any budget.
    assert set(rows.values_list("failures", "crashes")) == {(0, 0)}
    assert StageAttempt.objects.filter(run=run, outcome="released").exists()
    check_all()


def test_items_that_run_are_told_when_their_run_is_cancelled(hanging: Hanging) -> None:
    run = create_run("hanging", list(range(12)))

    with working(threads=4) as worker:
        until(lambda: in_status(run, "RUNNING") >= 3, "items run")
        cancel_run(run)
        until(lambda: len(worker.held) == 0, "the bodies have ended")

    assert in_status(run, "CANCELLED") == 12
    check_all()


def test_a_pause_lets_items_end_and_starts_no_others(hanging: Hanging) -> None:
    run = create_run("hanging", list(range(60)))

    with working(threads=4) as worker:
        until(lambda: in_status(run, "RUNNING") >= 3, "items run")
        pause_run(run)
        hanging.let_go.set()
        until(lambda: len(worker.held) == 0, "what ran has ended")
        assert 3 <= in_status(run, "COMPLETED") < 60
        resume_run(run)
        until(lambda: status_of(run) == "COMPLETED", "the map has ended")

    check_all()


@pytest.mark.parametrize("kind", ["async", "atomic"])
def test_other_kinds_of_stages_are_mapped_too(known: Any, kind: str) -> None:
    if kind == "async":

        @stage("work")
        async def work(ctx: StageContext[int]) -> int:
            return ctx.input + 1
    else:
        from datetime import timedelta

        @stage("work", atomic=True, timeout=timedelta(seconds=0.7))
        def work(ctx: StageContext[int]) -> int:
            return ctx.input + 1

    run = create_run(known(define_workflow("kinds", input=list[int]).map(work).build()), list(range(30)))

    with working():
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert run.get_output() == list(range(1, 31))
    check_all()


def test_an_async_stage_takes_the_list_of_a_map_on_the_loop(known: Any) -> None:
    @stage("double")
    def double(ctx: StageContext[int]) -> int:
        return ctx.input * 2

    @stage("total")
    async def total(ctx: StageContext[list[int]]) -> int:
        return sum(ctx.input)

    run = create_run(known(define_workflow("on-loop", input=list[int]).map(double).pipe(total).build()), [1, 2, 3])

    with working():
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", 12)


def test_a_body_that_kills_its_item_does_not_touch_the_others(known: Any) -> None:
    @stage("picky", retry=Retry(max_attempts=1))
    def picky(ctx: StageContext[int]) -> int:
        if ctx.input == 5:
            raise SystemExit("not with me")
        return ctx.input

    workflow = define_workflow("picky", input=list[int]).map(picky, on_item_error="skip").build()
    run = create_run(known(workflow), list(range(10)))

    with working():
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert run.get_output() == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_nothing_between_parents_and_children_waits_for_a_tick(known: Any, settings: Any) -> None:
    """The tick comes once an hour here."""
    settings.WORKFLOW_ENGINE = RINGING
    family = Family(max_parallel=4)
    known(*family.workflows)

    with working():
        run = create_run("parents", list(range(12)))
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    run.refresh_from_db()
    assert run.get_output() == [number * 10 for number in range(12)]
    check_all()


def test_a_cancelled_parent_cancels_children_that_run(known: Any, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = RINGING
    hanging = Hanging()

    @stage("delegate")
    def delegate(ctx: StageContext[int]) -> Any:
        return ctx.run_child("hanging", [1, 2])

    known(hanging.workflow, define_workflow("outer", input=list[int]).map(delegate).build())
    with working(threads=4):
        run = create_run("outer", [1, 2, 3])
        until(lambda: StageRun.objects.filter(stage="hang", status="RUNNING").exists(), "a grandchild runs")
        cancel_run(run)
        until(lambda: not WorkflowRun.objects.open().exists(), "no run is open")
        hanging.let_go.set()

    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"CANCELLED"}
    check_all()
