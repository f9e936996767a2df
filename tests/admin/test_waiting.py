from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.workflows import chain, fan
from workflow_engine import cancel_run, create_run, pause_queue, pause_run, pause_workflow
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.testing import FakeClock


@pytest.fixture
def run(known: Any, kernel: Any) -> WorkflowRun:
    return create_run(known(chain(2)), {"value": 1})


def test_a_run_that_has_ended_waits_for_nothing(run: WorkflowRun, clock: FakeClock) -> None:
    cancel_run(run)
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == ""


def test_a_run_may_be_paused(run: WorkflowRun, clock: FakeClock) -> None:
    run.paused_at = clock.now()

    assert waiting_reason(run, clock.now()) == (
        "Paused since 2026-01-01 12:00:00 UTC. Nothing new starts until it is resumed."
    )


def test_whoever_paused_a_run_is_named_with_the_reason(run: WorkflowRun, clock: FakeClock) -> None:
    pause_run(run, reason="wait for\nthe auditor", actor="ada")
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == (
        "Paused since 2026-01-01 12:00:00 UTC by ada: wait for the auditor. Nothing new starts until it is resumed."
    )


def test_its_workflow_may_be_paused(run: WorkflowRun, clock: FakeClock) -> None:
    pause_workflow("chain", reason="a bad release", actor="ada")

    assert waiting_reason(run, clock.now()) == (
        "The workflow chain has been paused since 2026-01-01 12:00:00 UTC by ada: a bad release. "
        "Nothing new starts until it is resumed."
    )


def test_a_stage_s_queue_may_be_paused(run: WorkflowRun, kernel: Kernel, clock: FakeClock) -> None:
    kernel.dispatch(ClaimPendingRuns())
    pause_queue("workflows")
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == (
        "Stage add-1 waits: its queue workflows has been paused since 2026-01-01 12:00:00 UTC."
    )


def test_a_run_may_be_for_later(known: Callable[..., Any], kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(known(chain(1)), {"value": 1}, run_at=clock.now() + timedelta(minutes=5))

    assert waiting_reason(run, clock.now()) == "Not due before 2026-01-01 12:05:00 UTC."


def test_nobody_may_be_working(run: WorkflowRun, clock: FakeClock) -> None:
    assert waiting_reason(run, clock.now()) == "No worker is running. Start one with: manage.py wfe_worker."


def test_a_worker_without_a_valid_lease_does_not_count(run: WorkflowRun, beat: Any, clock: FakeClock) -> None:
    beat("chain")
    clock.advance(timedelta(minutes=1))

    assert waiting_reason(run, clock.now()).startswith("No worker is running.")


def test_no_worker_may_know_the_workflow(run: WorkflowRun, beat: Any, clock: FakeClock) -> None:
    beat("another")

    assert waiting_reason(run, clock.now()) == (
        "No running worker knows the workflow chain: it is missing from their code."
    )


def test_every_worker_may_be_busy(run: WorkflowRun, beat: Any, clock: FakeClock) -> None:
    beat("chain", running=2)

    assert waiting_reason(run, clock.now()) == "Waiting for a free worker: all 2 places are taken."


def test_an_idle_worker_is_not_missed(run: WorkflowRun, beat: Any, clock: FakeClock) -> None:
    beat("chain", running=1)

    assert waiting_reason(run, clock.now()) == "A worker takes it in a moment: 1 of 2 places are free."


def test_a_stage_may_be_running(run: WorkflowRun, beat: Any, kernel: Kernel, clock: FakeClock) -> None:
    worker = beat("chain")
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=worker, slots=1)))
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == "Running stage add-1 on worker w1 (attempt 1)."


def test_the_worker_of_a_stage_may_be_lost(run: WorkflowRun, beat: Any, kernel: Kernel, clock: FakeClock) -> None:
    worker = beat("chain")
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=worker, slots=1)))
    run.refresh_from_db()
    clock.advance(timedelta(minutes=1))

    assert waiting_reason(run, clock.now()) == "Stage add-1 was left by its worker w1; it starts again elsewhere."


def test_no_worker_may_take_the_stage_s_queue(run: WorkflowRun, beat: Any, kernel: Kernel, clock: FakeClock) -> None:
    beat("chain", queues=("mail",))
    kernel.dispatch(ClaimPendingRuns())
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == "No running worker takes stages of the queue workflows."


def test_a_stage_may_wait_for_its_retry(
    known: Callable[..., Any], kernel: Kernel, host: InlineHost, clock: FakeClock
) -> None:
    @stage("call", retry=Retry(max_attempts=2, initial=timedelta(minutes=2), jitter=0))
    def call(ctx: StageContext[None]) -> None:
        raise TimeoutError("no answer\nfrom <there>")

    run = create_run(known(define_workflow("calling").pipe(call).build()), None)
    host.drain(run.pk)
    run.refresh_from_db()

    assert waiting_reason(run, clock.now()) == (
        "Stage call retries at 2026-01-01 12:02:00 UTC after TimeoutError: no answer from <there>."
    )


def test_many_open_stages_are_counted(
    known: Callable[..., Any],
    kernel: Kernel,
    host: InlineHost,
    clock: FakeClock,
    beat: Any,
    django_assert_max_num_queries: Any,
) -> None:
    run = create_run(known(fan(6)), {"value": 1})
    host.execute(host.take(run.pk)[0])
    StageRun.objects.filter(status="RUNNING").update(status="PENDING", worker=None)
    run.refresh_from_db()

    with django_assert_max_num_queries(3):
        reason = waiting_reason(run, clock.now())

    assert reason == "No worker is running. Start one with: manage.py wfe_worker. 3 more stages are open."
