"""Runs that start runs: one child per stage run and name; ends, failures, cancels and reruns travel both ways."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.families import Family
from tests.invariants import check_all, events
from workflow_engine import (
    Retry,
    StageContext,
    cancel_run,
    create_run,
    define_workflow,
    pause_run,
    rerun_from,
    resume_run,
    run_and_wait,
    stage,
)
from workflow_engine.definitions.results import StageSuspended
from workflow_engine.errors import ChildFailed
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import DeliverNotices, WakeSuspendedStages
from workflow_engine.models import RunNotice, StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow, stage_context

pytestmark = pytest.mark.django_db


@pytest.fixture
def family(known: Any) -> Family:
    made = Family(on_item_error="fail", max_parallel=3)
    known(*made.workflows)
    return made


def child_of(run: WorkflowRun) -> WorkflowRun:
    return WorkflowRun.objects.get(parent_run=run)


def status_of(run: WorkflowRun) -> str:
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk)


def one_step(host: InlineHost) -> None:
    (started,) = host.take()
    host.execute(started)


def test_the_stage_waits_for_its_child_and_gets_its_output(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 4)
    one_step(host)

    child, row = child_of(run), StageRun.objects.get(run=run)
    assert (row.status, row.wait_kind, row.wait_name, row.worker) == ("SUSPENDED", "child", "child", None)
    assert (child.status, child.parent_stage_run_id, child.root_run_id, child.depth) == ("PENDING", row.pk, run.pk, 1)
    assert child.get_input() == 4
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", 40)
    assert family.entered == {"delegate 4": 2, "first 4": 1, "last 4": 1}
    assert not RunNotice.objects.exists()
    told = [one.payload for one in run.events.filter(type="stage.suspended")]
    assert [(one["waits_for"], one["child_run_id"]) for one in told] == [("child", str(child.pk))]
    check_all()


def test_a_map_over_children_runs_a_pipeline_per_item(family: Family, host: InlineHost) -> None:
    run = create_run("parents", [3, 1, 2])
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == [30, 10, 20]
    assert WorkflowRun.objects.filter(root_run=run, parent_run=run).count() == 3
    check_all()


def test_a_failed_child_fails_its_stage_with_what_had_happened(family: Family, host: InlineHost) -> None:
    family.bad = {5}
    run = create_run("parent", 5)
    host.drain()

    run.refresh_from_db()
    assert run.status == "FAILED"
    assert run.error is not None
    assert (run.error["code"], run.error["class"], run.error["stage"]) == ("CHILD_FAILED", "ChildFailed", "delegate")
    assert run.error["message"] == (
        f"Child run {child_of(run).pk} of workflow 'child' is FAILED in stage 'last': ValueError: 5 is bad."
    )
    check_all()


def test_a_body_may_catch_the_failure_of_its_child(known: Any, host: InlineHost) -> None:
    family = Family()
    family.bad = {5}

    @stage("careful")
    def careful(ctx: StageContext[int]) -> str:
        try:
            return f"got {ctx.run_child(family.child, ctx.input)}"
        except ChildFailed as error:
            return f"{error.status}: {(error.error or {})['message']}"

    known(define_workflow("careful", input=int).pipe(careful).build(), family.child)
    run = create_run("careful", 5)
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", "FAILED: 5 is bad")


def test_children_of_a_stage_have_names_and_follow_each_other(known: Any, host: InlineHost) -> None:
    family = Family()

    @stage("both")
    def both(ctx: StageContext[int]) -> int:
        return ctx.run_child(family.child, 1, name="one") + ctx.run_child("child", 2, name="two")

    known(define_workflow("both", input=int).pipe(both).build(), family.child)
    run = create_run("both", 0)
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", 30)
    assert StageMemo.objects.filter(run=run, kind="child").count() == 2
    assert WorkflowRun.objects.filter(parent_run=run).count() == 2
    check_all()


def test_a_name_stands_for_one_child(known: Any, host: InlineHost) -> None:
    family = Family()

    @stage("careless")
    def careless(ctx: StageContext[int]) -> int:
        return ctx.run_child(family.child, 1) + ctx.run_child(family.child, 2)

    known(define_workflow("careless", input=int).pipe(careless).build(), family.child)
    run = create_run("careless", 0)
    host.drain()

    run.refresh_from_db()
    assert run.error is not None
    assert run.error["code"] == "INVALID_DEFINITION"
    assert "Give each child run of a stage a name" in run.error["message"]
    assert WorkflowRun.objects.filter(parent_run=run).count() == 1


def test_an_async_body_runs_a_child(known: Any) -> None:
    family = Family()

    @stage("later")
    async def later(ctx: StageContext[int]) -> int:
        return await ctx.arun_child(family.child, ctx.input)

    known(family.child)

    assert run_workflow(define_workflow("async-parent", input=int).pipe(later).build(), 3).output == 30


@pytest.mark.parametrize(
    ("workflow", "input", "code", "text"),
    [
        ("nobody", 1, "WORKFLOW_NOT_FOUND", "No workflow 'nobody' is registered."),
        (3, 1, "INVALID_INPUT", "workflow: must be a workflow or its id, got 3"),
        ("child", "x", "INVALID_INPUT", "Input should be a valid integer"),
    ],
)
def test_a_child_that_cannot_be_is_refused_and_nothing_is_written(
    known: Any, host: InlineHost, workflow: Any, input: Any, code: str, text: str
) -> None:
    family = Family()

    @stage("asks", retry=Retry(max_attempts=1))
    def asks(ctx: StageContext[int]) -> Any:
        return ctx.run_child(workflow, input)

    known(define_workflow("asks", input=int).pipe(asks).build(), family.child)
    run = create_run("asks", 0)
    host.drain()

    run.refresh_from_db()
    assert run.error is not None
    assert run.error["code"] == code
    assert text in run.error["message"]
    assert WorkflowRun.objects.count() == 1


def test_workflows_that_start_themselves_come_to_an_end(known: Any, host: InlineHost, kernel: Kernel) -> None:
    @stage("again", retry=Retry(max_attempts=1))
    def again(ctx: StageContext[int]) -> int:
        return int(ctx.run_child("endless", ctx.input + 1))

    known(define_workflow("endless", input=int).pipe(again).build())
    run = create_run("endless", 0)
    host.drain()

    limit = kernel.ports.limits.max_child_depth
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"FAILED"}
    assert WorkflowRun.objects.count() == limit + 1
    deepest = WorkflowRun.objects.get(depth=limit)
    assert deepest.root_run_id == run.pk
    assert deepest.error is not None
    assert deepest.error["code"] == "CHILD_TOO_DEEP"
    assert f"would be at depth {limit + 1}, the limit is {limit} (setting MAX_CHILD_DEPTH)" in deepest.error["message"]
    check_all()


def test_cancelling_a_parent_cancels_its_child(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 1)
    one_step(host)

    cancel_run(run)
    assert status_of(child_of(run)) == "PENDING"
    host.drain()

    child = child_of(run)
    assert (status_of(run), child.status) == ("CANCELLED", "CANCELLED")
    assert child.data.cancel_reason == f"The stage of run {run.pk} that had started it has ended."
    assert not RunNotice.objects.exists()
    assert events(child)[-1] == "run.cancelled"
    check_all()


def test_a_cancelled_child_fails_its_parent(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 1)
    one_step(host)

    cancel_run(child_of(run))
    host.drain()

    run.refresh_from_db()
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("FAILED", "CHILD_FAILED")
    assert "is CANCELLED." in run.error["message"]
    check_all()


def test_an_item_that_fails_cancels_the_children_of_the_others(family: Family, host: InlineHost) -> None:
    family.bad = {1}
    run = create_run("parents", [1, 2, 3, 4, 5])
    while StageRun.objects.filter(run=run, status="SUSPENDED", wait_kind="child").count() < 3:
        one_step(host)
    bad, *others = WorkflowRun.objects.filter(parent_run=run).order_by("pk")
    pause_run(others[0])

    host.drain()

    assert (status_of(run), status_of(bad), status_of(others[0])) == ("FAILED", "FAILED", "CANCELLED")
    assert not WorkflowRun.objects.open().exists()
    assert WorkflowRun.objects.filter(parent_run=run).count() <= 4
    check_all()


def test_grandchildren_are_cancelled_too(known: Any, host: InlineHost) -> None:
    family = Family()

    @stage("outer")
    def outer(ctx: StageContext[int]) -> int:
        return ctx.run_child(family.parent, ctx.input)

    known(define_workflow("outer", input=int).pipe(outer).build(), *family.workflows)
    run = create_run("outer", 1)
    one_step(host)
    one_step(host)
    assert list(WorkflowRun.objects.order_by("depth").values_list("depth", flat=True)) == [0, 1, 2]

    cancel_run(run)
    host.drain()

    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"CANCELLED"}
    check_all()


def test_a_rerun_of_the_stage_starts_another_child(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 1)
    host.drain()

    rerun_from(run, "delegate")
    host.drain()

    assert status_of(run) == "COMPLETED"
    assert WorkflowRun.objects.filter(parent_run=run).count() == 2
    assert family.entered["last 1"] == 2
    check_all()


def test_a_child_that_completes_after_all_lets_its_parent_go_on(family: Family, host: InlineHost) -> None:
    family.bad = {7}
    run = create_run("parent", 7)
    host.drain()
    assert status_of(run) == "FAILED"

    family.bad.clear()
    rerun_from(child_of(run), "last")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.generation, run.get_output()) == ("COMPLETED", 1, 70)
    # The child was not run anew: its own rerun is what the parent has got.
    assert WorkflowRun.objects.filter(parent_run=run).count() == 1
    assert family.entered["first 7"] == 1
    check_all()


def test_a_childs_rerun_lets_only_its_item_of_a_map_go_on(family: Family, host: InlineHost) -> None:
    family.bad = {7}
    run = create_run("parents", [1, 7])
    host.drain()
    assert status_of(run) == "FAILED"

    family.bad.clear()
    rerun_from(WorkflowRun.objects.get(parent_run=run, status="FAILED"), "last")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", [10, 70])
    assert family.entered["delegate 1"] == 2
    check_all()


def test_a_rerun_of_a_child_leaves_a_parent_alone_that_has_completed(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 2)
    host.drain()

    rerun_from(child_of(run), "last")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.generation) == ("COMPLETED", 0)
    assert not RunNotice.objects.exists()
    check_all()


def test_an_end_that_nobody_was_told_is_found_all_the_same(
    family: Family, host: InlineHost, kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run("parent", 1)
    one_step(host)
    child = child_of(run)
    for _ in range(2):
        if started := host.take():
            finished = host.execute(started[0])
            for one in finished.next:
                host.execute(one)
    assert status_of(child) == "COMPLETED"
    RunNotice.objects.all().delete()
    assert host.drain() == 0

    clock.advance(timedelta(minutes=1))
    assert len(kernel.dispatch(WakeSuspendedStages()).resumed) == 1
    host.drain()

    assert status_of(run) == "COMPLETED"


def test_a_stage_that_waits_for_a_child_that_was_deleted_fails(
    family: Family, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run("parent", 1)
    one_step(host)
    child_of(run).delete()

    clock.advance(timedelta(minutes=1))
    host.drain()

    run.refresh_from_db()
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("FAILED", "RUN_NOT_FOUND")


def test_a_paused_parent_goes_on_after_its_pause(family: Family, host: InlineHost) -> None:
    run = create_run("parent", 1)
    one_step(host)
    pause_run(run)
    host.drain()
    assert (status_of(child_of(run)), status_of(run)) == ("COMPLETED", "RUNNING")
    assert StageRun.objects.get(run=run).status == "PENDING"

    resume_run(run)
    host.drain()

    assert status_of(run) == "COMPLETED"


def test_a_notice_to_a_run_that_is_gone_is_forgotten(family: Family, host: InlineHost, kernel: Kernel) -> None:
    run = create_run("parent", 1)
    one_step(host)
    child = child_of(run)
    host.drain()
    RunNotice.objects.create(run_id=child.pk, sender=run.pk, kind="cancel", due_at=kernel.ports.clock.now())
    WorkflowRun.objects.filter(pk=child.pk).delete()
    RunNotice.objects.create(run_id=child.pk, sender=run.pk, kind="cancel", due_at=kernel.ports.clock.now())

    assert kernel.dispatch(DeliverNotices()).delivered == 1

    assert not RunNotice.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_run_and_wait_drives_children_too(known: Any) -> None:
    family = Family(max_parallel=4)
    known(*family.workflows)

    result = run_and_wait("parents", [1, 2, 3, 4, 5, 6], timeout=60)

    assert (result.status, result.output) == ("COMPLETED", [10, 20, 30, 40, 50, 60])
    assert not WorkflowRun.objects.open().exists()
    check_all()


def test_a_body_with_a_child_is_tested_like_a_function() -> None:
    family = Family()
    delegate = family.parent.get_stage("delegate")

    assert delegate(stage_context(delegate, 3, children={"child": 30})) == 30
    with pytest.raises(StageSuspended):
        delegate(stage_context(delegate, 3))
    with pytest.raises(ChildFailed):
        delegate(stage_context(delegate, 3, children={"child": ChildFailed("child", "x", "FAILED", None)}))
