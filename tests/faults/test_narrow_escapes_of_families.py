"""Maps and child runs in situations that reviews and faults have found; each was wrong once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from pydantic import BaseModel

from tests.concurrency.threads import together
from tests.families import Family
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.maps import Importer
from tests.waiting import until
from workflow_engine import Output, Retry, cancel_run, create_run, pause_run, rerun_from, resume_run
from workflow_engine.definitions import StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.registry import register, registry_override
from workflow_engine.definitions.results import Completed, Expanded, Failed, StageError, StageSuspended, Suspended
from workflow_engine.executors.child_runs import ChildRuns
from workflow_engine.executors.held import Held
from workflow_engine.executors.memory import Memory
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, DeliverNotices, FinishStages, Outcome, StartStages
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import RunNotice, StageMemo, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db
WORKER = uuid.uuid4()
BAD = Failed(StageError("STAGE_FAILED", "Unlucky", "no"), None)


def starter(slots: int = 50) -> Starter:
    return Starter(worker_id=WORKER, slots=slots)


def outcome(stage: Any, result: Any) -> Outcome:
    return Outcome(stage, result, timedelta(0))


def children_of(run: WorkflowRun) -> dict[Any, WorkflowRun]:
    """Return the child runs by their input."""
    return {child.get_input(): child for child in WorkflowRun.objects.filter(parent_run=run)}


def one_more_step(kernel: Kernel, host: InlineHost, run: WorkflowRun) -> None:
    """Run what is due of one run only, and deliver what it has told."""
    (started,) = kernel.dispatch(StartStages(starter=starter(1), run_id=run.pk)).started
    host.execute(started)
    kernel.dispatch(DeliverNotices())


class Two:
    """``boss`` starts the children "c" and "a", one after the other; inputs in ``bad`` make them fail."""

    def __init__(self) -> None:
        self.bad: set[str] = set()

        @stage("leaf", retry=Retry(max_attempts=1))
        def leaf(ctx: StageContext[str]) -> str:
            if ctx.input in self.bad:
                raise ValueError("bad")
            return ctx.input

        child = define_workflow("kid", input=str).pipe(leaf).build()

        @stage("boss", retry=Retry(max_attempts=1))
        def boss(ctx: StageContext[str]) -> str:
            return ctx.run_child(child, "c", name="c") + ctx.run_child(child, "a", name="a")

        self.workflows = (define_workflow("two", input=str).pipe(boss).build(), child)


@pytest.fixture
def two(known: Any) -> Two:
    made = Two()
    known(*made.workflows)
    return made


def test_a_rerun_child_of_an_item_is_not_started_a_second_time(known: Any, host: InlineHost) -> None:
    family = Family(on_item_error="fail", max_parallel=3)
    family.bad = {7}
    known(*family.workflows)
    run = create_run("parents", [1, 7])
    host.drain()
    assert status_of(run) == "FAILED"

    family.bad.clear()
    rerun_from(WorkflowRun.objects.get(parent_run=run, status="FAILED"), "last")
    host.drain()

    assert status_of(run) == "COMPLETED"
    assert family.entered["first 7"] == 1
    check_all()


def test_an_item_that_asks_for_a_child_while_its_map_fails_leaves_no_run_behind(
    known: Any, host: InlineHost, kernel: Kernel
) -> None:
    known(*Family(on_item_error="fail", max_parallel=3).workflows)
    create_run("parents", [1, 2])
    (owner,) = kernel.dispatch(ClaimPendingRuns(starter=starter())).started
    made = outcome(owner, Expanded((inline(1), inline(2))))
    bad, asking = kernel.dispatch(FinishStages(outcomes=(made,), starter=starter())).finished[0].next
    kernel.dispatch(FinishStages(outcomes=(outcome(bad, BAD),)))

    held = Held(asking)
    with pytest.raises(StageSuspended) as suspended:
        ChildRuns(kernel.ports, held, Memory(kernel.ports, held)).run("child", 2, name=None, config=None, metadata=None)
    kernel.dispatch(FinishStages(outcomes=(outcome(asking, Suspended(suspended.value.suspension)),)))
    host.drain()

    assert dict(WorkflowRun.objects.values_list("workflow", "status")) == {"parents": "FAILED", "child": "CANCELLED"}
    check_all()


def test_items_whose_start_was_not_answered_have_their_config_all_the_same(known: Any, kernel: Kernel) -> None:
    class Config(BaseModel):
        number: int = 0

    @stage("configured")
    def configured(ctx: StageContext[int, Config]) -> int:
        return ctx.config.number

    known(define_workflow("configured", input=list[int]).map(configured, max_parallel=2).build())
    create_run("configured", [1, 2, 3], config={"configured": {"number": 5}})
    (owner,) = kernel.dispatch(ClaimPendingRuns(starter=starter())).started
    made, causation_id = outcome(owner, Expanded(tuple(map(inline, (1, 2, 3))))), uuid.uuid4()
    first = FinishStages(outcomes=(made,), starter=starter())
    again = FinishStages(outcomes=(made,), starter=starter(), again=True)

    starts = [kernel.dispatch(one, causation_id=causation_id).finished[0].next for one in (first, again)]

    assert [[item.config for item in started] for started in starts] == [[{"number": 5}] * 2] * 2


def test_a_condition_on_a_map_is_about_its_list(known: Any, host: InlineHost) -> None:
    class Row(BaseModel):
        number: int

    @stage("rows")
    def rows(ctx: StageContext[int]) -> Row:
        return Row(number=ctx.input)

    @stage("after", when=Output(rows)[0].number == 1)
    def after(ctx: StageContext[list[Row]]) -> str:
        return "ran"

    known(define_workflow("asks-a-map", input=list[int]).map(rows).pipe(after).build())
    run = create_run("asks-a-map", [1, 2, 3])
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == "ran"


def test_a_child_is_cancelled_though_its_parent_was_woken_by_another_one(
    two: Two, host: InlineHost, kernel: Kernel
) -> None:
    run = create_run("two", "x")
    while not StageMemo.objects.filter(name="a").exists():
        for started in host.take():
            host.execute(started)
        kernel.dispatch(DeliverNotices())
    children = children_of(run)
    pause_run(children["a"])
    rerun_from(children["c"], "leaf")
    one_more_step(kernel, host, children["c"])
    assert StageRun.objects.get(run=run).status == "SUSPENDED"

    cancel_run(run)
    host.drain()

    assert status_of(children["a"]) == "CANCELLED"
    check_all()


def test_a_parent_goes_on_once_all_its_children_have_completed_and_not_before(
    two: Two, host: InlineHost, kernel: Kernel
) -> None:
    two.bad = {"a"}
    run = create_run("two", "x")
    host.drain()
    assert status_of(run) == "FAILED"
    two.bad.clear()
    children = children_of(run)
    rerun_from(children["a"], "leaf")
    pause_run(children["a"])
    rerun_from(children["c"], "leaf")
    one_more_step(kernel, host, children["c"])
    assert status_of(run) == "FAILED"

    resume_run(children["a"])
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", "ca")
    assert WorkflowRun.objects.filter(parent_run=run).count() == 2
    check_all()


def test_a_cancellation_reaches_a_child_that_a_rerun_has_handed_on(
    known: Any, host: InlineHost, kernel: Kernel
) -> None:
    family = Family(on_item_error="fail", max_parallel=3)
    family.bad = {7, 8}
    known(*family.workflows)
    run = create_run("parents", [7, 8])
    host.drain()
    family.bad.clear()
    children = children_of(run)
    failed = [child for child in children.values() if child.status == "FAILED"]
    for child in failed:
        rerun_from(child, "last")
    for child in failed[1:]:
        pause_run(child)
    one_more_step(kernel, host, failed[0])
    assert status_of(run) == "RUNNING"

    cancel_run(run)
    host.drain()

    assert not WorkflowRun.objects.open().exists()
    check_all()


def test_what_was_rerun_since_is_not_cancelled_by_an_old_notice(known: Any, host: InlineHost, kernel: Kernel) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    host.drain()
    (child,) = children_of(run).values()
    RunNotice.objects.create(run_id=child.pk, sender=run.pk, kind="cancel", due_at=kernel.ports.clock.now())
    rerun_from(child, "first")

    kernel.dispatch(DeliverNotices())
    host.drain()

    assert status_of(child) == "COMPLETED"
    assert not RunNotice.objects.exists()


def test_the_doctor_counts_items_that_went_on_in_the_place_of_others(known: Any, kernel: Kernel) -> None:
    known(define_workflow("six", input=int).map(Importer().stages[1], max_parallel=2).build())
    create_run("six", 1)
    (owner,) = kernel.dispatch(ClaimPendingRuns(starter=starter())).started
    made = outcome(owner, Expanded(tuple(inline({"number": number}) for number in range(6))))
    first, _ = kernel.dispatch(FinishStages(outcomes=(made,), starter=starter())).finished[0].next
    done = outcome(first, Completed(inline(0)))
    assert len(kernel.dispatch(FinishStages(outcomes=(done,), starter=starter())).finished[0].next) == 1

    assert [finding.code for finding in examine(kernel.ports).findings if finding.code == "map.miscounted"] == []
    check_all()


def test_a_deploy_that_changes_the_input_of_a_child_fails_no_parent_that_waits(host: InlineHost) -> None:
    class Before(BaseModel):
        number: int

    class After(BaseModel):
        number: int
        factor: int = 1

    def workflows(kind: Any) -> list[Workflow[Any, Any]]:
        @stage("leaf")
        def leaf(ctx: StageContext[Any]) -> int:
            return int(ctx.input["number"])

        child = define_workflow("kid", input=kind).pipe(leaf).build()

        @stage("boss")
        def boss(ctx: StageContext[int]) -> int:
            return ctx.run_child(child, kind(number=1))

        return [child, define_workflow("deployed", input=int).pipe(boss).build()]

    with registry_override():
        for workflow in workflows(Before):
            register(workflow)
        run = create_run("deployed", 1)
        (started,) = host.take()
        host.execute(started)
    with registry_override():
        for workflow in workflows(After):
            register(workflow)
        host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", 1)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_notice_to_a_run_that_somebody_holds_keeps_no_timer_waiting(known: Any) -> None:
    @stage("nap")
    def nap(ctx: StageContext[int]) -> int:
        ctx.sleep(timedelta(milliseconds=200))
        return 1

    known(define_workflow("napper", input=int).pipe(nap).build(), *Family().workflows)
    victim = create_run("parent", 1)
    RunNotice.objects.create(run_id=victim.pk, sender=victim.pk, kind="child_ended", due_at=victim.created_at)
    napper = create_run("napper", 1)

    def held_all_the_time() -> None:
        with transaction.atomic():
            WorkflowRun.objects.select_for_update(no_key=True).get(pk=victim.pk)
            with working(attach=False):
                until(lambda: status_of(napper) == "COMPLETED", "the timer has ended")

    together([held_all_the_time])

    assert RunNotice.objects.exists()
