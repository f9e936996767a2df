"""A workflow's timeout: when it is over, the run fails, whatever its stages are doing."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all, events
from tests.kernel.test_pausing_runs import outcome, starter
from tests.workflows import Number, add_stage
from workflow_engine import create_run, pause_run
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ClaimPendingRuns, ExpireRuns, FinishStages
from workflow_engine.models import RunData, StageAttempt, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow

MINUTE = timedelta(minutes=1)


def timed(id: str = "timed", timeout: timedelta | None = MINUTE) -> Workflow[Any, Any]:
    pair = [add_stage("left"), add_stage("right")]
    return define_workflow(id, input=Number, timeout=timeout).parallel(*pair).build()


def test_the_time_runs_from_the_start_of_the_run(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(known(timed()), {"value": 1})
    clock.advance(timedelta(hours=1))
    assert WorkflowRun.objects.get(pk=run.pk).deadline_at is None

    kernel.dispatch(ClaimPendingRuns())

    assert WorkflowRun.objects.get(pk=run.pk).deadline_at == clock.now() + MINUTE


def test_a_run_whose_time_is_over_fails_and_its_open_stages_are_cancelled(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run(known(timed()), {"value": 1})
    (left,) = kernel.dispatch(ClaimPendingRuns(starter=starter(1))).started
    clock.advance(MINUTE)

    assert kernel.dispatch(ExpireRuns()).expired == (run.pk,)

    run.refresh_from_db()
    assert (run.status, run.error) == (
        "FAILED",
        {
            "code": "RUN_TIMEOUT",
            "class": "TimeoutError",
            "message": "The run took longer than its workflow's timeout of 0:01:00.",
            "stage": None,
        },
    )
    assert set(StageRun.objects.values_list("status", flat=True)) == {"CANCELLED"}
    assert StageAttempt.objects.get().outcome == "cancelled"
    assert events(run)[-3:] == ["stage.cancelled", "stage.cancelled", "run.failed"]
    assert kernel.dispatch(FinishStages(outcomes=(outcome(left),))).finished[0].kind == "ghost"
    assert kernel.dispatch(ExpireRuns()).expired == ()
    check_all()


def test_a_run_in_time_and_one_without_a_timeout_go_on(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    known(timed(), timed("endless", None))
    runs = [create_run(name, {"value": 1}) for name in ("timed", "endless")]
    kernel.dispatch(ClaimPendingRuns())
    clock.advance(MINUTE - timedelta(milliseconds=1))

    result = kernel.dispatch(ExpireRuns())

    assert (result.expired, result.kept) == ((), 0)
    assert {WorkflowRun.objects.get(pk=run.pk).status for run in runs} == {"RUNNING"}


def test_a_run_that_ended_in_time_stays_as_it_is(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run(known(timed()), {"value": 1})
    host.drain()
    clock.advance(MINUTE)

    assert kernel.dispatch(ExpireRuns()).expired == ()
    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"


def test_a_pause_does_not_stop_the_time(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(known(timed()), {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    pause_run(run)
    clock.advance(MINUTE)

    assert kernel.dispatch(ExpireRuns()).expired == (run.pk,)
    assert WorkflowRun.objects.get(pk=run.pk).paused_at is None


def test_one_run_that_cannot_be_ended_hides_no_other(
    known: Any, kernel: Kernel, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    known(timed())
    bad, good = (create_run("timed", {"value": 1}) for _ in range(2))
    kernel.dispatch(ClaimPendingRuns())
    RunData.objects.filter(pk=bad.pk).update(plan={"timeout": "a minute"})
    clock.advance(MINUTE)

    result = kernel.dispatch(ExpireRuns())

    assert (result.expired, result.kept) == ((good.pk,), 1)
    assert WorkflowRun.objects.get(pk=bad.pk).status == "RUNNING"
    assert "run cannot be failed by its timeout" in caplog.text


def test_the_tick_ends_runs(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    create_run(known(timed()), {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    clock.advance(MINUTE)

    assert Orchestrator(kernel).tick()["expire_runs"] == 1


def test_only_the_named_run_is_ended(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    known(timed())
    runs = [create_run("timed", {"value": 1}) for _ in range(2)]
    kernel.dispatch(ClaimPendingRuns())
    clock.advance(MINUTE)

    assert kernel.dispatch(ExpireRuns(run_id=uuid.uuid4())).expired == ()
    assert kernel.dispatch(ExpireRuns(run_id=runs[1].pk)).expired == (runs[1].pk,)


def test_the_driver_of_tests_jumps_to_the_deadline(known: Any, db: None) -> None:
    @stage("calls", retry=Retry(max_attempts=9, initial=timedelta(hours=1), maximum=timedelta(days=1)))
    def calls(ctx: StageContext[None]) -> None:
        raise ConnectionError("nobody there")

    result = run_workflow(known(define_workflow("calling", timeout=timedelta(hours=2)).pipe(calls).build()))

    assert result.status == "FAILED"
    assert result.error is not None
    assert result.error["code"] == "RUN_TIMEOUT"
    assert result.duration == timedelta(hours=2)
    assert result.stages[0].status == "CANCELLED"
