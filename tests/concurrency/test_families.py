"""Items of a map and child runs against whatever else touches their runs: real threads, the kernel's own clock."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.families import Family
from tests.invariants import check_all
from tests.maps import Importer
from workflow_engine import cancel_run, create_run, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Expanded, Failed, Result, StageError
from workflow_engine.errors import InvalidTransition
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    DeliverNotices,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, RunNotice, StageMap, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 25
WORKER = uuid.uuid4()
BAD = Failed(StageError("STAGE_FAILED", "Unlucky", "no"), None)


@pytest.fixture
def kernel(known: Any) -> Iterator[Kernel]:
    """Return the kernel of the project's settings: real clock, real transport."""
    known(Importer(max_parallel=50).workflow, *Family(max_parallel=50).workflows)
    yield get_kernel()


def starter(slots: int = 100) -> Starter:
    return Starter(worker_id=WORKER, slots=slots)


def finish(kernel: Kernel, stages: list[StartedStage], result: Result, *, together: bool) -> list[str]:
    """Finish attempts, as the thread of a worker does; what is left out together is finished alone."""
    outcomes = tuple(Outcome(stage, result, timedelta(0)) for stage in stages)
    done = kernel.dispatch(FinishStages(outcomes=outcomes, together=together)).finished
    missing = {one.stage.stage_run_id for one in outcomes} - {one.stage_run_id for one in done}
    rest = tuple(one for one in outcomes if one.stage.stage_run_id in missing)
    alone = kernel.dispatch(FinishStages(outcomes=rest)).finished if rest else ()
    return [one.kind for one in (*done, *alone)]


def mapped(kernel: Kernel, items: int) -> tuple[WorkflowRun, list[StartedStage]]:
    """Return a run whose items have all been started."""
    run = create_run("importer", items)
    (first,) = kernel.dispatch(ClaimPendingRuns(run_id=run.pk, starter=starter())).started
    lines = Completed(inline([{"number": number, "text": ""} for number in range(items)]))
    finish(kernel, [first], lines, together=False)
    (owner,) = kernel.dispatch(StartStages(starter=starter(), run_id=run.pk)).started
    assert owner.expands
    made = Expanded(tuple(inline({"number": number, "text": ""}) for number in range(items)))
    finish(kernel, [owner], made, together=False)
    started = kernel.dispatch(StartStages(starter=starter(), run_id=run.pk)).started
    assert len(started) == items
    return run, list(started)


def cancel_all(runs: list[WorkflowRun]) -> None:
    for run in runs:
        cancel_run(run)


def status_of(run: WorkflowRun) -> str:
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk)


@pytest.mark.parametrize("joined", [True, False])
def test_the_last_items_end_a_map_exactly_once(kernel: Kernel, joined: bool) -> None:
    for _ in range(ROUNDS):
        run, items = mapped(kernel, 8)
        shares = [items[number::4] for number in range(4)]

        kinds = together([partial(finish, kernel, mine, Completed(inline(1)), together=joined) for mine in shares])

        assert Counter(kind for share in kinds for kind in share) == {"completed": 8}
        counts = StageMap.objects.get(run=run)
        assert (counts.done, counts.ended) == (8, 8)
        ended = OutboxEvent.objects.filter(run=run, type="stage.completed", payload__stage_id="import-line")
        assert ended.count() == 9
        assert StageRun.objects.filter(run=run, stage="summary").count() == 1
    check_all()


def test_items_that_fail_together_fail_their_run_once(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, items = mapped(kernel, 6)

        together(
            [
                partial(finish, kernel, items[:2], BAD, together=True),
                partial(finish, kernel, items[2:4], BAD, together=True),
                partial(finish, kernel, items[4:], Completed(inline(1)), together=True),
            ]
        )

        assert status_of(run) == "FAILED"
        assert OutboxEvent.objects.filter(run=run, type="run.failed").count() == 1
        assert not StageRun.objects.filter(run=run, status__in=("PENDING", "RUNNING", "SUSPENDED")).exists()
    check_all()


def test_a_cancel_against_items_that_end_leaves_nothing_open(kernel: Kernel) -> None:
    won: Counter[str] = Counter()
    for _ in range(ROUNDS):
        run, items = mapped(kernel, 6)

        cancelled, *_ = together(
            [
                partial(cancel_run, run),
                partial(finish, kernel, items[:3], Completed(inline(1)), together=True),
                partial(finish, kernel, items[3:], Completed(inline(1)), together=True),
            ]
        )

        assert cancelled
        won[status_of(run)] += 1
        assert not StageRun.objects.filter(run=run, status__in=("RUNNING", "SUSPENDED")).exists()
    assert set(won) == {"CANCELLED"}
    check_all()


def test_a_reaper_against_items_that_end_takes_what_is_left(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, items = mapped(kernel, 6)

        together(
            [
                # The worker never beat, so its lease counts as over.
                lambda: kernel.dispatch(ReapStaleLeases()),
                partial(finish, kernel, items[:3], Completed(inline(1)), together=True),
                partial(finish, kernel, items[3:], BAD, together=True),
            ]
        )

        counts = StageMap.objects.get(run=run)
        rows = Counter(StageRun.objects.filter(run=run, map_index__gte=0).values_list("status", flat=True))
        assert (counts.done, counts.failed, counts.cancelled) == (
            rows["COMPLETED"],
            rows["FAILED"],
            rows["CANCELLED"],
        )
    check_all()


def parents(kernel: Kernel, count: int) -> tuple[WorkflowRun, list[WorkflowRun]]:
    """Return a run whose items all wait for a child, and the children."""
    run = create_run("parents", list(range(count)))
    host = InlineHost(kernel)
    while WorkflowRun.objects.filter(parent_run=run).count() < count:
        (started,) = host.take(run.pk)
        host.execute(started)
    return run, list(WorkflowRun.objects.filter(parent_run=run).order_by("pk"))


def test_ends_of_children_are_told_once_however_many_deliver_them(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, children = parents(kernel, 5)
        for child in children:
            cancel_run(child)

        delivered = together([lambda: kernel.dispatch(DeliverNotices()).delivered] * 3)

        while RunNotice.objects.exists():
            kernel.dispatch(DeliverNotices())
        assert sum(delivered) <= 5
        waiting = StageRun.objects.filter(run=run, map_index__gte=0)
        assert set(waiting.values_list("status", flat=True)) == {"PENDING"}
        cancel_run(run)
    check_all()


def test_a_cancelled_parent_and_children_that_end_lock_each_other_never(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, children = parents(kernel, 4)

        together(
            [
                partial(cancel_run, run),
                partial(cancel_all, children),
                lambda: kernel.dispatch(DeliverNotices()),
                lambda: kernel.dispatch(DeliverNotices()),
            ]
        )

        while RunNotice.objects.exists():
            kernel.dispatch(DeliverNotices())
        assert set(WorkflowRun.objects.filter(root_run=run).values_list("status", flat=True)) == {"CANCELLED"}
        assert status_of(run) == "CANCELLED"
    check_all()


def test_a_child_that_ends_while_somebody_looks_again_is_heard(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, (child,) = parents(kernel, 1)
        stages = StageRun.objects.filter(run=run, wait_kind="child")
        stages.update(wake_at=run.created_at)

        together(
            [
                partial(cancel_run, child),
                lambda: kernel.dispatch(WakeSuspendedStages()),
                lambda: kernel.dispatch(DeliverNotices()),
            ]
        )

        while RunNotice.objects.exists():
            kernel.dispatch(DeliverNotices())
        assert not stages.filter(status="SUSPENDED").exists()
        InlineHost(kernel).drain(run.pk)
        assert status_of(run) == "FAILED"
    check_all()


def test_of_reruns_of_failed_items_one_wins(kernel: Kernel) -> None:
    for _ in range(ROUNDS):
        run, items = mapped(kernel, 4)
        finish(kernel, items[:2], Completed(inline(1)), together=True)
        finish(kernel, items[2:], BAD, together=True)
        assert status_of(run) == "FAILED"

        def rerun(run: WorkflowRun = run) -> bool:
            try:
                return bool(rerun_from(run, "import-line", only_failed_items=True).generation)
            except InvalidTransition:
                return False

        assert sorted(together([rerun] * 3)) == [False, False, True]
        assert StageRun.objects.filter(run=run, generation=1, map_index__gte=0).count() == 2
        cancel_run(run)
    check_all()
