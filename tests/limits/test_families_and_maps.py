"""Limits where runs start runs, and where a run is wide."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from tests.maps import Importer
from workflow_engine import Limit, StageContext, cancel_run, create_run, define_workflow, rerun_from, stage
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ClaimPendingRuns, DeliverNotices, WakeSuspendedStages
from workflow_engine.models import RunPlace, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow

from .workflows import Order, by_tenant, limited, per_minute


def parent_of(child: Workflow[Any, Any], id: str = "parent", **options: Any) -> Workflow[Any, Any]:
    @stage("delegate")
    def delegate(ctx: StageContext[Order]) -> Order:
        return ctx.run_child(child.id, ctx.input)

    return define_workflow(id, input=Order, **options).pipe(delegate).build()


def statuses(workflow: str) -> list[str]:
    return list(WorkflowRun.objects.filter(workflow=workflow).order_by("pk").values_list("status", flat=True))


def with_limit(workflow: Workflow[Any, Any], limit: Limit) -> Workflow[Any, Any]:
    return Workflow(**{**vars(workflow), "concurrency": limit})


def test_children_wait_for_the_places_of_their_workflow(kernel: Kernel, host: InlineHost, known: Any) -> None:
    child = limited(Limit(2), id="child")
    known(parent_of(child), child)
    for _ in range(5):
        create_run("parent", Order())
    for started in [host.take()[0] for _ in range(5)]:
        host.execute(started)
    kernel.dispatch(DeliverNotices())

    assert len(kernel.dispatch(ClaimPendingRuns()).claimed) == 2
    assert sorted(RunPlace.objects.values_list("status", flat=True)) == ["HELD", "HELD", *["WAITING"] * 3]
    host.drain()

    assert statuses("parent") == statuses("child") == ["COMPLETED"] * 5
    check_all()


def test_a_child_needs_no_place_of_a_limit_that_the_runs_above_it_hold(host: InlineHost, known: Any) -> None:
    @stage("halve")
    def halve(ctx: StageContext[int]) -> int:
        return ctx.input and 1 + ctx.run_child("halves", ctx.input // 2)

    known(define_workflow("halves", input=int, concurrency=Limit(1)).pipe(halve).build())
    first, second = create_run("halves", 8), create_run("halves", 2)

    host.drain()

    assert [WorkflowRun.objects.get(pk=run.pk).get_output() for run in (first, second)] == [4, 2]
    assert RunPlace.objects.count() == 2


def test_a_child_that_waits_for_its_place_is_cancelled_with_its_parent(host: InlineHost, known: Any) -> None:
    child = limited(Limit(1), id="child")
    known(parent_of(child), child)
    create_run(child, Order())
    host.kernel.dispatch(DeliverNotices())
    parent = create_run("parent", Order())
    host.execute(*host.take(parent.pk))

    cancel_run(parent)
    host.drain()

    assert statuses("child") == ["COMPLETED", "CANCELLED"]
    assert not RunPlace.objects.exclude(status="FREE").exists()


def test_a_rerun_of_failed_items_waits_for_its_place_with_all_of_them(host: InlineHost, known: Any) -> None:
    importer = Importer(max_parallel=4)
    importer.bad = {2, 5}
    known(with_limit(importer.workflow, Limit(1)))
    run = create_run("importer", 8)
    host.drain()
    importer.bad.clear()
    other = create_run("importer", 3)
    host.kernel.dispatch(DeliverNotices())
    before = dict(importer.entered)

    rerun_from(run, "import-line", only_failed_items=True)
    host.drain(run.pk)
    # Whoever looks after maps that went unheard leaves it alone.
    host.kernel.dispatch(WakeSuspendedStages())
    assert (statuses("importer"), importer.entered) == (["RUNNING", "PENDING"], before)
    host.drain(other.pk)
    host.drain()

    assert statuses("importer") == ["COMPLETED", "COMPLETED"]
    assert {row.generation for row in StageRun.objects.filter(run=run, map_index__in=(2, 5), status="COMPLETED")} == {1}
    check_all()


def test_a_rerun_that_is_cancelled_while_it_waits_is_over(host: InlineHost, known: Any) -> None:
    known(limited(Limit(1)))
    run = create_run("limited", Order())
    host.drain()
    create_run("limited", Order())
    host.kernel.dispatch(DeliverNotices())

    rerun_from(run, "load")
    cancel_run(run)
    host.drain()

    assert statuses("limited") == ["CANCELLED", "COMPLETED"]
    check_all()


def test_a_test_of_a_workflow_with_limits_needs_nothing_else(known: Any, db: None) -> None:
    workflow = known(by_tenant(1, rate=per_minute(1)))

    results = [run_workflow(workflow, Order(number=number)) for number in range(2)]

    assert [result.output.number for result in results] == [0, 1]


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "ten"])
def test_a_limit_that_is_no_number_is_refused_where_it_is_written(most: Any) -> None:
    from workflow_engine.errors import InvalidDefinition

    with pytest.raises(InvalidDefinition, match="most must be a whole number of 1 or more, got"):
        Limit(most)


def test_other_arguments_are_refused_too() -> None:
    from workflow_engine import Rate
    from workflow_engine.errors import InvalidDefinition

    with pytest.raises(InvalidDefinition, match="say how many runs"):
        Limit()
    with pytest.raises(InvalidDefinition, match="key must be a function"):
        Limit(1, key="tenant")  # type: ignore[arg-type]
    with pytest.raises(InvalidDefinition, match="per must be a timedelta above 0 and up to a day"):
        Rate(1, per=timedelta(days=2))
    with pytest.raises(InvalidDefinition, match="concurrency must be Limit"):
        define_workflow("w", concurrency=10)  # type: ignore[call-overload]


def test_the_clock_of_a_rerun_that_waits_does_not_run(host: InlineHost, clock: FakeClock, known: Any) -> None:
    known(limited(Limit(1), timeout=timedelta(minutes=1)))
    run = create_run("limited", Order())
    host.drain()
    holder = create_run("limited", Order())
    host.kernel.dispatch(DeliverNotices())
    rerun_from(run, "load")

    clock.advance(timedelta(hours=1))
    host.drain(holder.pk)
    host.drain(run.pk)

    assert statuses("limited") == ["COMPLETED", "COMPLETED"]
