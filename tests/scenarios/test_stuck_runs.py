"""Runs that nothing moves, and runs that only look like it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import events
from tests.janitors import begin, pass_time, set_stages, worker
from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.bootstrap import use_kernel
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Beat, ClaimPendingRuns, ReapStuckRuns, TransitionRun
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel
from workflow_engine.testing.kernels import SilentTransport

MONTH = timedelta(days=30)


class LosingTransport(SilentTransport):
    """Loses every bell, and remembers where it was asked to ring again."""

    def __init__(self) -> None:
        super().__init__()
        self.refilled: list[str] = []

    @property
    def polls(self) -> bool:
        return False

    def refill(self, queues: Sequence[str]) -> None:
        self.refilled += queues


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2), fan(2))


def test_t51_a_pending_stage_without_a_bell_is_rung_for_and_fails_never(db: None, clock: FakeClock) -> None:
    transport = LosingTransport()
    with use_kernel(create_test_kernel(clock=clock, transport=transport)) as kernel:
        begin(kernel, create_run("chain", {"value": 1}))
        clock.advance(MONTH)

        result = kernel.dispatch(ReapStuckRuns())

    assert (result.requeued, transport.refilled) == (("workflows",), ["workflows"])
    assert (result.transitioned, result.failed) == ((), ())


def test_t51_a_settled_group_that_nobody_advanced_goes_on(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    set_stages(run, "COMPLETED", finished_at=clock.now())

    first = kernel.dispatch(ReapStuckRuns())
    second = kernel.dispatch(ReapStuckRuns())

    assert (first.transitioned, first.failed, second.transitioned) == ((run.pk,), (), ())
    assert StageRun.objects.get(run=run, stage="add-2").status == "PENDING"


def test_t51_a_run_whose_last_stage_is_done_is_completed(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    for _ in range(2):
        kernel.dispatch(ClaimPendingRuns())
        set_stages(run, "COMPLETED", finished_at=clock.now())
        kernel.dispatch(ReapStuckRuns())

    run.refresh_from_db()
    assert (run.status, events(run)[-1]) == ("COMPLETED", "run.completed")


def test_t51_a_run_that_only_was_not_told_of_a_failure_fails_with_that_error(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("fan", {"value": 1})
    begin(kernel, run)
    set_stages(run, "COMPLETED", finished_at=clock.now())
    kernel.dispatch(ReapStuckRuns())
    set_stages(run, "CANCELLED", "add-1", finished_at=clock.now())
    set_stages(run, "FAILED", "add-2", finished_at=clock.now(), error={"code": "STAGE_FAILED", "message": "no"})

    result = kernel.dispatch(ReapStuckRuns())

    run.refresh_from_db()
    assert (result.transitioned, result.failed) == ((run.pk,), ())
    assert run.error == {"code": "STAGE_FAILED", "message": "no", "stage": "add-2"}


def test_t51_a_long_body_whose_worker_beats_is_left_alone(kernel: Kernel, clock: FakeClock) -> None:
    facts = worker({"chain": ["add-1", "add-2"]})
    create_run("chain", {"value": 1})
    kernel.dispatch(Beat(worker=facts, running={}))
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=facts.id, slots=1)))
    for _ in range(10):
        pass_time(kernel, clock, timedelta(seconds=25), facts)
        Orchestrator(kernel).tick()

    assert StageRun.objects.get().status == "RUNNING"


@pytest.mark.parametrize("kind", ["poll", "answer", "timer"])
def test_t51_a_stage_that_waits_for_a_month_is_left_alone(kernel: Kernel, clock: FakeClock, kind: str) -> None:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    wake_at = None if kind == "answer" else clock.now() + MONTH + timedelta(days=1)
    set_stages(run, "SUSPENDED", wait_kind=kind, suspended_at=clock.now(), wake_at=wake_at)
    clock.advance(MONTH)

    Orchestrator(kernel).tick()

    run.refresh_from_db()
    assert (run.status, StageRun.objects.get().status) == ("RUNNING", "SUSPENDED")


def test_t51_a_long_backlog_and_paused_runs_are_left_alone(kernel: Kernel, clock: FakeClock) -> None:
    runs = [create_run("chain", {"value": 1}) for _ in range(5)]
    for run in runs[:3]:
        begin(kernel, run)
    WorkflowRun.objects.filter(pk__in=[run.pk for run in runs[1:4]]).update(paused_at=clock.now())
    set_stages(runs[2], "CANCELLED", finished_at=clock.now())
    clock.advance(MONTH)

    Orchestrator(kernel, claims=False).tick()

    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"RUNNING", "PENDING"}


def test_t52_a_run_without_a_live_stage_fails_once_with_the_list_of_its_stages(
    kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run("fan", {"value": 1})
    begin(kernel, run)
    set_stages(run, "COMPLETED", finished_at=clock.now())
    kernel.dispatch(ReapStuckRuns())
    set_stages(run, "COMPLETED", "add-1", finished_at=clock.now())
    set_stages(run, "CANCELLED", "add-2", finished_at=clock.now())

    first, second = kernel.dispatch(ReapStuckRuns()), kernel.dispatch(ReapStuckRuns())

    run.refresh_from_db()
    assert (first.failed, second.failed, run.status) == ((run.pk,), (), "FAILED")
    assert (run.error["code"], run.error["class"], run.error["stage"]) == ("STUCK", "", "add-2")
    assert "(first COMPLETED, add-1 COMPLETED, add-2 CANCELLED)" in run.error["message"]
    assert events(run).count("run.failed") == 1


def test_t52_a_group_with_a_row_that_is_missing_is_not_taken_for_done(kernel: Kernel, host: Any) -> None:
    run = create_run("fan", {"value": 1})
    (started,) = host.take()
    host.execute(started)
    StageRun.objects.filter(run=run, stage="add-2").delete()
    set_stages(run, "COMPLETED", finished_at=kernel.ports.clock.now())

    moved = kernel.dispatch(TransitionRun(run_id=run.pk)).action
    result = kernel.dispatch(ReapStuckRuns())

    run.refresh_from_db()
    assert (moved, result.failed, run.status) == ("noop", (run.pk,), "FAILED")
    assert (run.error["code"], run.error["stage"]) == ("STUCK", "add-2")
    assert "add-2 missing" in run.error["message"]


def test_a_row_that_is_missing_when_its_siblings_end_fails_the_next_stage_loudly(kernel: Kernel, host: Any) -> None:
    run = create_run("fan", {"value": 1})
    (started,) = host.take()
    host.execute(started)
    StageRun.objects.filter(run=run, stage="add-2").delete()
    StageRun.objects.filter(run=run, stage="add-1").update(status="PENDING", worker=None)

    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "MISSING_INPUT", "total")


def test_a_run_that_cannot_be_treated_hides_no_other(
    kernel: Kernel, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from workflow_engine.kernel.commands import reap_stuck_runs

    monkeypatch.setattr(reap_stuck_runs, "PAGE", 2)
    runs = [create_run("chain", {"value": 1}) for _ in range(5)]
    for run in runs:
        begin(kernel, run)
        set_stages(run, "COMPLETED", finished_at=clock.now())
    for run in runs[:3]:
        run.data.plan = {}
        run.data.save()

    result = kernel.dispatch(ReapStuckRuns(max=2))

    assert set(result.transitioned) == {runs[3].pk, runs[4].pk}
    assert caplog.text.count("stuck run cannot be treated") == 3


def test_a_command_goes_on_where_the_one_before_it_came_to(kernel: Kernel, clock: FakeClock) -> None:
    runs = [create_run("chain", {"value": 1}) for _ in range(3)]
    for run in runs:
        begin(kernel, run)
        set_stages(run, "COMPLETED", finished_at=clock.now())

    seen: list[uuid.UUID] = []
    place = None
    for _ in range(4):
        result = kernel.dispatch(ReapStuckRuns(max=1, after=place))
        seen += result.transitioned
        place = result.place

    assert seen == sorted(run.pk for run in runs)
    assert place is None


def test_ticks_look_at_one_page_each_and_begin_again_at_the_end(
    kernel: Kernel, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflow_engine.kernel.commands import reap_stuck_runs

    monkeypatch.setattr(reap_stuck_runs, "PAGE", 2)
    runs = sorted((create_run("chain", {"value": 1}) for _ in range(5)), key=lambda run: run.pk)
    for run in runs:
        begin(kernel, run)
    set_stages(runs[4], "COMPLETED", finished_at=clock.now())
    orchestrator = Orchestrator(kernel, claims=False)

    first = [orchestrator.seldom["reap_stuck"]() for _ in range(3)]
    set_stages(runs[0], "COMPLETED", finished_at=clock.now())
    again = [orchestrator.seldom["reap_stuck"]() for _ in range(3)]

    assert (first, again) == ([0, 0, 1], [1, 0, 0])


def test_an_idle_tick_asks_four_statements_for_what_is_stuck_or_unknown(
    kernel: Kernel, django_assert_max_num_queries: Any
) -> None:
    from workflow_engine.kernel.commands import ReapUnknown

    with django_assert_max_num_queries(4):
        kernel.dispatch(ReapStuckRuns())
        kernel.dispatch(ReapUnknown())
