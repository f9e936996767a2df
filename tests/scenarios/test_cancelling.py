"""Cancelling a run, whatever it is doing just then."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.invariants import check_all, events
from tests.waiting import until
from tests.workflows import Number, add_stage, chain, fan
from workflow_engine import cancel_run, create_run, pause_run, stage
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Completion, StageContext, define_workflow
from workflow_engine.definitions.results import Completed, RunCancelledError
from workflow_engine.errors import RunNotFound
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import CancelRun, ClaimPendingRuns, FinishStages, Outcome, StartStages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock

ROUNDS = 60


def finish(kernel: Kernel, started: StartedStage) -> str:
    outcome = Outcome(started, Completed(inline({"value": 1})), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def start(kernel: Kernel, run: WorkflowRun) -> StartedStage:
    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    (started,) = kernel.dispatch(ClaimPendingRuns(run_id=run.pk, starter=starter)).started
    return started


def status_of(run: WorkflowRun) -> str:
    return WorkflowRun.objects.values_list("status", flat=True).get(pk=run.pk)


def test_t47_a_pending_run_is_cancelled_and_never_starts(known: Any, kernel: Kernel, host: InlineHost) -> None:
    run = create_run(known(chain(1)), {"value": 1})

    assert cancel_run(run, reason="asked twice", actor="ada") is True

    assert host.drain() == 0
    assert status_of(run) == "CANCELLED"
    assert events(run) == ["run.created", "run.cancelled"]


def test_t47_a_paused_run_is_cancelled(known: Any, kernel: Kernel, host: InlineHost) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    pause_run(run)

    assert cancel_run(run) is True
    assert (status_of(run), WorkflowRun.objects.get(pk=run.pk).paused_at) == ("CANCELLED", None)


def test_t47_the_stages_of_a_running_run_follow_and_its_late_result_is_dropped(known: Any, kernel: Kernel) -> None:
    run = create_run(known(fan(2)), {"value": 1})
    first = start(kernel, run)
    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    outcome = Outcome(first, Completed(inline({"value": 1})), timedelta(0))
    (running,) = kernel.dispatch(FinishStages(outcomes=(outcome,), starter=starter)).finished[0].next

    assert cancel_run(run) is True

    stages = dict(StageRun.objects.values_list("stage", "status"))
    assert stages == {"first": "COMPLETED", "add-1": "CANCELLED", "add-2": "CANCELLED"}
    assert finish(kernel, running) == "ghost"
    # A doorbell that comes late starts nothing.
    waiting = StageRun.objects.get(stage="add-2")
    assert kernel.dispatch(StartStages(starter=starter, stage_run_ids=(waiting.pk,))).started == ()
    assert StageRun.objects.get(stage="add-1").output is None
    assert list(StageAttempt.objects.order_by("id").values_list("stage", "outcome")) == [
        ("first", "completed"),
        ("add-1", "cancelled"),
    ]
    assert events(run)[-3:] == ["stage.cancelled", "stage.cancelled", "run.cancelled"]
    check_all()


def test_t47_a_suspended_stage_is_cancelled_and_never_checked_again(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    checks: list[int] = []

    @stage("submits")
    def submits(ctx: StageContext[Number]) -> Number:
        return ctx.suspend({"batch": 1}, poll_every=timedelta(seconds=10))

    @submits.check_completion
    def done(ctx: StageContext[Number], state: dict[str, Any]) -> Completion[Number]:
        checks.append(1)
        return Completion.pending()

    run = create_run(known(define_workflow("batches", input=Number).pipe(submits).build()), {"value": 1})
    host.drain()
    assert StageRun.objects.get().status == "SUSPENDED"
    before = len(checks)

    assert cancel_run(run) is True
    clock.advance(timedelta(hours=1))
    host.drain()

    assert (status_of(run), StageRun.objects.get().status, len(checks)) == ("CANCELLED", "CANCELLED", before)
    check_all()


def test_t47_a_body_is_told_in_its_middle(known: Any, kernel: Kernel, host: InlineHost) -> None:
    seen: list[str] = []

    @stage("asks")
    def asks(ctx: StageContext[Number]) -> Number:
        cancel_run(ctx.run_id)
        try:
            # It asks the database at most twice a second.
            until(lambda: ctx.raise_if_cancelled(), "told of the cancellation")
        except RunCancelledError:
            seen.append("told")
            raise
        return ctx.input

    run = create_run(
        known(define_workflow("asking", input=Number).pipe(asks).pipe(add_stage("after")).build()), {"value": 1}
    )
    host.drain()

    assert (seen, status_of(run)) == (["told"], "CANCELLED")
    assert not StageRun.objects.filter(stage="after").exists()
    check_all()


def test_t47_finished_and_missing_runs_are_left_as_they_are(known: Any, kernel: Kernel, host: InlineHost) -> None:
    run = create_run(known(chain(1)), {"value": 1})
    host.drain()
    count = OutboxEvent.objects.count()

    assert cancel_run(run) is False
    with pytest.raises(RunNotFound):
        kernel.dispatch(CancelRun(run_id=uuid.uuid4()))

    assert (status_of(run), OutboxEvent.objects.count()) == ("COMPLETED", count)


@pytest.mark.django_db(transaction=True)
def test_t48_cancel_racing_completion_gives_one_terminal_status_and_one_terminal_event(known: Any) -> None:
    known(chain(1))
    kernel, won = get_kernel(), Counter[tuple[str, bool]]()
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        started = start(kernel, run)

        kind, cancelled = together([lambda s=started: finish(kernel, s), lambda r=run: cancel_run(r)])

        won[kind, cancelled] += 1
        assert status_of(run) == ("CANCELLED" if cancelled else "COMPLETED")
        ends = [name for name in events(run) if name in ("run.completed", "run.failed", "run.cancelled")]
        assert ends == ["run.cancelled" if cancelled else "run.completed"]

    assert set(won) <= {("completed", False), ("ghost", True)}
    assert check_all() == ROUNDS
