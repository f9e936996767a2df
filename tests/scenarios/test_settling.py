"""What a group does while one of its stages has failed, or is about to be tried again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all, events
from tests.workflows import Broken, Number, add_stage, total
from workflow_engine import create_run
from workflow_engine.definitions import NonRetryableError, Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

WAIT = timedelta(minutes=1)


def group(*, attempts: int, succeeds_at: int = 99) -> Workflow[Any, Any]:
    """Return 1 -> 2 in parallel -> 1, where the second of the two fails ``succeeds_at - 1`` times."""

    @stage("shaky", retry=Retry(max_attempts=attempts, initial=WAIT, factor=1, jitter=0))
    def shaky(ctx: StageContext[Number]) -> Number:
        if ctx.attempt < succeeds_at:
            raise Broken(f"attempt {ctx.attempt}")
        return ctx.input

    first = add_stage("first")
    return define_workflow("group", input=Number).pipe(first).parallel(add_stage("firm"), shaky).pipe(total).build()


def status_of(run: WorkflowRun) -> tuple[str, dict[str, str]]:
    stages = dict(StageRun.objects.filter(run=run).values_list("stage", "status"))
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk), stages


def test_t27_a_sibling_that_completes_while_another_retries_neither_fails_nor_advances_the_run(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run(known(group(attempts=2, succeeds_at=2)), {"value": 1})

    host.drain()

    stages = {"first": "COMPLETED", "firm": "COMPLETED", "shaky": "PENDING"}
    assert status_of(run) == ("RUNNING", stages)
    clock.advance(WAIT)
    host.drain()
    assert status_of(run) == ("COMPLETED", {**stages, "shaky": "COMPLETED", "total": "COMPLETED"})
    assert StageRun.objects.get(stage="shaky").error is None
    assert WorkflowRun.objects.get(pk=run.pk).error is None
    check_all()


def test_t27_an_exhausted_retry_fails_the_run_once_its_group_has_settled(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    run = create_run(known(group(attempts=1)), {"value": 1})
    (first,) = host.take()
    # The place that becomes free is the first sibling's; the other one fails before it has ended.
    (firm,) = host.execute(first).next
    assert firm.stage_id == "firm"
    (shaky,) = host.take()

    assert host.execute(shaky).kind == "failed"

    assert status_of(run) == ("RUNNING", {"first": "COMPLETED", "firm": "RUNNING", "shaky": "FAILED"})
    assert host.execute(firm).kind == "completed"
    run.refresh_from_db()
    assert (run.status, run.error["stage"], run.error["class"]) == ("FAILED", "shaky", "Broken")
    assert run.error["message"] == "attempt 1"
    assert [name for name in events(run) if name.startswith("run.")] == ["run.created", "run.started", "run.failed"]
    check_all()


@pytest.mark.parametrize("fail_fast", [False, True])
def test_t28_later_stages_never_start_after_a_failure_and_earlier_outputs_stay(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock, fail_fast: bool
) -> None:
    @stage("fails")
    def fails(ctx: StageContext[Number]) -> Number:
        raise NonRetryableError("no")

    builder = define_workflow("stops", input=Number).pipe(add_stage("before"))
    workflow = builder.parallel(fails, add_stage("beside"), fail_fast=fail_fast).pipe(total).build()
    run = create_run(known(workflow), {"value": 1})

    host.drain()
    clock.advance(timedelta(days=1))
    host.drain()

    beside = "CANCELLED" if fail_fast else "COMPLETED"
    assert status_of(run) == ("FAILED", {"before": "COMPLETED", "fails": "FAILED", "beside": beside})
    assert StageRun.objects.get(stage="before").get_output() == {"value": 2}
    assert WorkflowRun.objects.get(pk=run.pk).get_output() is None
    check_all()
