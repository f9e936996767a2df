"""Groups that fail fast: the first stage that fails for good ends the run, and its siblings with it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all, events
from tests.kernel.test_pausing_runs import outcome
from tests.workflows import Number, add_stage, total
from workflow_engine import create_run
from workflow_engine.definitions import Workflow, define_workflow
from workflow_engine.definitions.results import Failed, StageError
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    Beat,
    ClaimPendingRuns,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    StartStages,
    WorkerFacts,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

WORKER = uuid.UUID(int=7)
ERROR = StageError("STAGE_FAILED", "Broken", "no paper", "")


def group(*, fail_fast: bool) -> Workflow[Any, Any]:
    middle = [add_stage(f"add-{number}") for number in range(1, 4)]
    return define_workflow("group", input=Number).parallel(*middle, fail_fast=fail_fast).pipe(total).build()


def start(kernel: Kernel, slots: int) -> Sequence[StartedStage]:
    return kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=WORKER, slots=slots))).started


def fail(kernel: Kernel, started: StartedStage, retry_in: timedelta | None = None) -> str:
    failed = Outcome(started, Failed(ERROR, retry_in), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(failed,))).finished[0].kind


def statuses(run: WorkflowRun) -> list[str]:
    return list(StageRun.objects.filter(run=run).in_order().values_list("status", flat=True))


def test_the_siblings_are_cancelled_and_the_run_fails_with_the_real_error(known: Any, kernel: Kernel) -> None:
    run = create_run(known(group(fail_fast=True)), {"value": 1})
    first, second = start(kernel, 2)

    assert fail(kernel, second) == "failed"

    run.refresh_from_db()
    assert statuses(run) == ["CANCELLED", "FAILED", "CANCELLED"]
    assert (run.status, run.error) == (
        "FAILED",
        {"code": "STAGE_FAILED", "class": "Broken", "message": "no paper", "stage": "add-2"},
    )
    assert events(run)[-4:] == ["stage.failed", "stage.cancelled", "stage.cancelled", "run.failed"]
    # Only what ran has a history.
    attempts = StageAttempt.objects.filter(run=run).order_by("stage")
    assert list(attempts.values_list("stage", "outcome")) == [("add-1", "cancelled"), ("add-2", "failed")]
    assert kernel.dispatch(FinishStages(outcomes=(outcome(first),))).finished[0].kind == "ghost"
    check_all()


def test_a_retry_is_no_failure(known: Any, kernel: Kernel) -> None:
    run = create_run(known(group(fail_fast=True)), {"value": 1})
    first, _, _ = start(kernel, 3)

    assert fail(kernel, first, retry_in=timedelta(0)) == "retrying"

    assert statuses(run) == ["PENDING", "RUNNING", "RUNNING"]
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"


def test_a_group_that_does_not_fail_fast_comes_to_its_end(known: Any, kernel: Kernel, host: InlineHost) -> None:
    run = create_run(known(group(fail_fast=False)), {"value": 1})
    first, second = start(kernel, 2)

    fail(kernel, first)
    assert statuses(run) == ["FAILED", "RUNNING", "PENDING"]
    assert kernel.dispatch(FinishStages(outcomes=(outcome(second),))).finished[0].kind == "completed"
    host.drain()

    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("FAILED", ["FAILED", "COMPLETED", "COMPLETED"])
    assert run.error["stage"] == "add-1"
    check_all()


def test_a_stage_that_kills_its_worker_ends_the_others_too(known: Any, kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(known(group(fail_fast=True)), {"value": 1})
    row, alive = start(kernel, 2)
    StageRun.objects.filter(pk=row.pk).update(worker=uuid.UUID(int=8), alone=True, crashes=2)
    facts = WorkerFacts(id=WORKER, name="w", host="h", pid=1, version="1", slots=2)
    kernel.dispatch(Beat(worker=facts, running={alive.pk: alive.token}))

    assert kernel.dispatch(ReapStaleLeases()).failed == (row.pk,)

    run.refresh_from_db()
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "WORKER_LOST", "add-1")
    assert statuses(run) == ["FAILED", "CANCELLED", "CANCELLED"]
    # The worker that lives is told by its next beat.
    assert kernel.dispatch(Beat(worker=facts, running={alive.pk: alive.token})).lost == {alive.pk}
    check_all()


@pytest.mark.parametrize("slots", [1, 3])
def test_a_group_that_fails_fast_completes_like_any_other(
    known: Any, kernel: Kernel, host: InlineHost, slots: int
) -> None:
    run = create_run(known(group(fail_fast=True)), {"value": 1})
    for stage in start(kernel, slots):
        kernel.dispatch(FinishStages(outcomes=(outcome(stage),), together=True))
    assert kernel.dispatch(StartStages(starter=Starter(worker_id=WORKER, slots=0))).started == ()

    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error) == ("COMPLETED", None)
    check_all()
