"""Forced interleavings around maps and child runs: one step stands still in its transaction while the other begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.concurrency.isolation import isolation as isolation
from tests.concurrency.test_barriers import NOTHING, Step, meet
from tests.concurrency.test_families import BAD, finish, mapped, parents, starter
from tests.families import Family
from tests.invariants import check_all
from tests.maps import Importer
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Expanded, StageSuspended, Suspended
from workflow_engine.executors.child_runs import ChildRuns
from workflow_engine.executors.held import Held
from workflow_engine.executors.memory import Memory
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    DeliverNotices,
    ReapStaleLeases,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, RunNotice, StageMap, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql, pytest.mark.usefixtures("isolation")]


@dataclass
class Scene:
    run: WorkflowRun
    stages: list[StartedStage] = field(default_factory=list)
    children: list[WorkflowRun] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(Importer(max_parallel=50).workflow, *Family(max_parallel=50).workflows)


def items() -> Scene:
    """Two items of a map run."""
    return Scene(*mapped(get_kernel(), 2))


def expanding() -> Scene:
    """The mapped stage itself runs, and is about to have its items."""
    kernel = get_kernel()
    run = create_run("importer", 3)
    (first,) = kernel.dispatch(ClaimPendingRuns(run_id=run.pk, starter=starter())).started
    finish(kernel, [first], Completed(inline([])), together=False)
    return Scene(run, list(kernel.dispatch(StartStages(starter=starter(), run_id=run.pk)).started))


def asking() -> Scene:
    """A stage runs, and is about to start its child."""
    run = create_run("parent", 1)
    return Scene(run, list(get_kernel().dispatch(ClaimPendingRuns(run_id=run.pk, starter=starter())).started))


def told() -> Scene:
    """A child has ended, and its parent is about to hear of it."""
    run, children = parents(get_kernel(), 1)
    cancel_run(children[0])
    return Scene(run, children=children)


def ended(index: int, result: Any, *, together: bool = False) -> Callable[[Any], str]:
    def step(scene: Any) -> str:
        (kind,) = finish(get_kernel(), [scene.stages[index]], result, together=together)
        return kind

    return step


def start_child(scene: Any) -> str:
    held = Held(scene.stages[0])
    children = ChildRuns(get_kernel().ports, held, Memory(get_kernel().ports, held))
    with pytest.raises(StageSuspended) as suspended:
        children.run("child", 1, name=None, config=None, metadata=None)
    (kind,) = finish(get_kernel(), [held.stage], Suspended(suspended.value.suspension), together=False)
    return kind


def cancel(scene: Any) -> str:
    return "cancelled" if cancel_run(scene.run) else NOTHING


def deliver(scene: Any) -> str:
    return "delivered" if get_kernel().dispatch(DeliverNotices()).delivered else NOTHING


def reap(scene: Any) -> str:
    done = get_kernel().dispatch(ReapStaleLeases())
    return "reaped" if done.released or done.failed else NOTHING


def look_again(scene: Any) -> str:
    return "resumed" if get_kernel().dispatch(WakeSuspendedStages()).resumed else NOTHING


MADE = Expanded(tuple(inline({"number": number, "text": ""}) for number in range(3)))
FIRST: Step = (ended(0, Completed(inline(1))), points.COMPLETE_IN_TX)
SECOND: Step = (ended(1, Completed(inline(2))), points.COMPLETE_IN_TX)
FAILS: Step = (ended(1, BAD), points.COMPLETE_IN_TX)
EXPAND: Step = (ended(0, MADE), points.MAP_IN_TX)
START_CHILD: Step = (start_child, points.CHILD_IN_TX)
CANCEL: Step = (cancel, points.CANCEL_IN_TX)
DELIVER: Step = (deliver, points.NOTICE_IN_TX)
REAP: Step = (reap, points.REAP_IN_TX)
LOOK: Step = (look_again, points.WAKE_IN_TX)


def status_of(run: WorkflowRun) -> str:
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk)


def deliver_all() -> None:
    while RunNotice.objects.exists():
        get_kernel().dispatch(DeliverNotices())


def test_the_last_two_items_end_their_map_once() -> None:
    scene = items()

    assert meet(FIRST, SECOND, scene) == ("completed", "completed", True)

    assert StageMap.objects.get().done == 2
    assert StageRun.objects.filter(run=scene.run, stage="summary").count() == 1
    assert OutboxEvent.objects.filter(run=scene.run, type="stage.completed").count() == 4
    check_all()


@pytest.mark.parametrize(("first", "second"), [(FIRST, FAILS), (FAILS, FIRST)], ids=["good-first", "bad-first"])
def test_an_item_that_fails_beside_one_that_completes_fails_the_run_once(first: Step, second: Step) -> None:
    scene = items()

    one, other, waited = meet(first, second, scene)

    assert ({one, other}, waited) == ({"completed", "failed"}, True)
    counts = StageMap.objects.get()
    assert (counts.done, counts.failed, status_of(scene.run)) == (1, 1, "FAILED")
    check_all()


@pytest.mark.parametrize("step", [FIRST, FAILS], ids=["completes", "fails"])
def test_an_item_that_ends_beside_a_cancellation(step: Step) -> None:
    scene = items()
    assert meet(step, CANCEL, scene) == (kind_of(step), "cancelled", True)
    check_all()

    scene = items()
    assert meet(CANCEL, step, scene) == ("cancelled", "ghost", True)
    check_all()


def kind_of(step: Step) -> str:
    return "failed" if step is FAILS else "completed"


def test_an_item_that_ends_beside_a_reaper_is_not_taken_twice() -> None:
    scene = items()
    one, other, _ = meet(FIRST, REAP, scene)
    assert one == "completed"
    # The other item is still without a living worker; its run was held just then.
    assert other in {NOTHING, "reaped"}
    check_all()

    scene = items()
    assert meet(REAP, FIRST, scene)[0] == "reaped"
    check_all()


def test_items_are_written_or_the_run_is_cancelled() -> None:
    scene = expanding()
    assert meet(EXPAND, CANCEL, scene) == ("suspended", "cancelled", True)
    assert set(StageRun.objects.filter(map_index__gte=0).values_list("status", flat=True)) == {"CANCELLED"}
    check_all()

    scene = expanding()
    assert meet(CANCEL, EXPAND, scene) == ("cancelled", "ghost", True)
    assert not StageRun.objects.filter(run=scene.run, map_index__gte=0).exists()
    check_all()


def test_a_child_that_is_started_beside_a_cancellation_is_cancelled_or_never_was() -> None:
    scene = asking()
    assert meet(START_CHILD, CANCEL, scene) == ("suspended", "cancelled", True)
    deliver_all()
    assert status_of(WorkflowRun.objects.get(parent_run=scene.run)) == "CANCELLED"
    check_all()

    scene = asking()
    assert meet(CANCEL, START_CHILD, scene) == ("cancelled", "ghost", True)
    assert not WorkflowRun.objects.filter(parent_run=scene.run).exists()
    check_all()


def test_the_end_of_a_child_is_heard_beside_a_cancellation() -> None:
    scene = told()
    one, other, waited = meet(DELIVER, CANCEL, scene)
    assert (one, other, waited) == ("delivered", "cancelled", True)
    check_all()

    scene = told()
    one, other, waited = meet(CANCEL, DELIVER, scene)
    # Never waiting: what is told to a run that somebody holds is told a moment later.
    assert (one, other, waited) == ("cancelled", NOTHING, False)
    deliver_all()
    assert not RunNotice.objects.exists()
    check_all()


def test_two_who_deliver_the_same_notice_deliver_it_once() -> None:
    scene = told()

    assert meet(DELIVER, DELIVER, scene) == ("delivered", NOTHING, False)

    assert list(StageRun.objects.filter(run=scene.run, map_index=0).values_list("status", flat=True)) == ["PENDING"]
    check_all()


def test_whoever_looks_again_leaves_a_run_alone_that_is_just_being_told() -> None:
    scene = told()
    StageRun.objects.filter(run=scene.run, status="SUSPENDED").update(wake_at=scene.run.created_at)

    assert meet(DELIVER, LOOK, scene)[0] == "delivered"

    assert list(StageRun.objects.filter(run=scene.run, map_index=0).values_list("status", flat=True)) == ["PENDING"]
    check_all()
