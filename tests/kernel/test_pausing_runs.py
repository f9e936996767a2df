"""A paused run: nothing new of it starts, what runs finishes, and it goes on when it is resumed."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from tests.invariants import check_all, events
from tests.workflows import Number, chain, fan
from workflow_engine import apause_run, aresume_run, cancel_run, create_run, pause_run, resume_run
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.definitions.results import Completed
from workflow_engine.errors import RunNotFound
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    FinishStages,
    Outcome,
    PauseRun,
    ReapStaleLeases,
    ResumeRun,
    StartStages,
    TransitionRun,
)
from workflow_engine.kernel.started import StartedStage, find_input, started_from
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock, SilentTransport


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2), fan(2))


def starter(slots: int = 5) -> Starter:
    return Starter(worker_id=uuid.uuid4(), slots=slots)


def outcome(started: StartedStage) -> Outcome:
    return Outcome(started, Completed(inline({"value": 1})), timedelta(0))


def pushed(kernel: Kernel) -> list[str]:
    assert isinstance(kernel.ports.transport, SilentTransport)
    return [message.queue for message in kernel.ports.transport.pushed]


def test_a_paused_pending_run_is_not_claimed_before_it_is_resumed(kernel: Kernel, host: InlineHost) -> None:
    run = create_run("chain", {"value": 1})

    assert pause_run(run, reason="wait for the auditor", actor="ada") is True

    assert kernel.dispatch(ClaimPendingRuns(run_id=run.pk)).claimed == ()
    assert host.drain() == 0
    assert resume_run(run, reason="seen", actor="bob") is True
    assert host.drain() == 2
    told = OutboxEvent.objects.filter(run=run, type__in=["run.paused", "run.resumed"]).order_by("sequence")
    assert list(told.values_list("payload", flat=True)) == [
        {"workflow_id": "chain", "reason": "wait for the auditor", "actor": "ada"},
        {"workflow_id": "chain", "reason": "seen", "actor": "bob"},
    ]
    check_all()


def test_pausing_and_resuming_twice_changes_nothing(kernel: Kernel) -> None:
    run = create_run("chain", {"value": 1})

    assert [pause_run(run), pause_run(str(run.pk)), resume_run(run.pk), resume_run(run)] == [True, False, True, False]

    assert events(run) == ["run.created", "run.paused", "run.resumed"]


def test_a_run_that_has_ended_is_left_as_it_was(kernel: Kernel, host: InlineHost) -> None:
    run = create_run("chain", {"value": 1})
    host.drain()

    results = [kernel.dispatch(PauseRun(run_id=run.pk)), kernel.dispatch(ResumeRun(run_id=run.pk))]

    assert [(result.changed, result.status) for result in results] == [(False, "COMPLETED")] * 2
    assert WorkflowRun.objects.get(pk=run.pk).paused_at is None


@pytest.mark.parametrize("function", [pause_run, resume_run])
def test_a_run_that_does_not_exist_is_an_error(kernel: Kernel, function: Any) -> None:
    with pytest.raises(RunNotFound):
        function(uuid.uuid4())


@pytest.mark.parametrize("together", [False, True])
def test_what_runs_finishes_and_what_follows_waits(kernel: Kernel, host: InlineHost, together: bool) -> None:
    run = create_run("chain", {"value": 1})
    (first,) = kernel.dispatch(ClaimPendingRuns(starter=starter())).started
    pause_run(run)

    command = FinishStages(outcomes=(outcome(first),), starter=starter(), together=together)
    (finished,) = kernel.dispatch(command).finished

    assert (finished.kind, finished.next) == ("completed", ())
    second = StageRun.objects.get(run=run, stage="add-2")
    assert second.status == "PENDING"
    assert kernel.dispatch(StartStages(starter=starter(), stage_run_ids=(second.pk,))).started == ()
    assert kernel.dispatch(TransitionRun(run_id=run.pk)).action == "noop"
    resume_run(run)
    assert host.drain() == 1
    check_all()


@pytest.mark.parametrize("together", [False, True])
def test_a_sibling_that_waits_for_a_place_is_not_given_one(kernel: Kernel, host: InlineHost, together: bool) -> None:
    run = create_run("fan", {"value": 1})
    host.execute(host.take()[0])
    pause_run(run)
    running = StageRun.objects.get(run=run, status="RUNNING")
    started = _as_started(kernel, run, running)

    command = FinishStages(outcomes=(outcome(started),), starter=starter(), together=together)
    (finished,) = kernel.dispatch(command).finished

    assert (finished.kind, finished.next) == ("completed", ())
    assert sorted(StageRun.objects.filter(run=run).values_list("status", flat=True)) == [
        "COMPLETED",
        "COMPLETED",
        "PENDING",
    ]


def _as_started(kernel: Kernel, run: WorkflowRun, row: StageRun) -> StartedStage:
    run = WorkflowRun.objects.select_related("data").get(pk=run.pk)
    return started_from(row, run, find_input(run, row.group_number, kernel.ports.using))


def test_a_retry_and_a_lost_attempt_wait_too(known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock) -> None:
    @stage("fails", retry=Retry(max_attempts=2, initial=timedelta(0)))
    def fails(ctx: StageContext[Number]) -> Number:
        pause_run(ctx.run_id)
        raise ValueError("no")

    retrying = create_run(known(define_workflow("retrying", input=Number).pipe(fails).build()), {"value": 1})
    host.drain(retrying.pk)
    lost = create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns(run_id=lost.pk, starter=starter()))
    pause_run(lost)
    assert len(kernel.dispatch(ReapStaleLeases()).released) == 1
    clock.advance(timedelta(minutes=1))

    assert host.drain() == 0

    assert list(StageRun.objects.values_list("status", "attempt")) == [("PENDING", 1)] * 2


def test_a_run_that_ends_while_it_is_paused_is_not_paused_any_more(kernel: Kernel) -> None:
    runs = [create_run("chain", {"value": 1}) for _ in range(2)]
    (first,) = kernel.dispatch(ClaimPendingRuns(run_id=runs[0].pk, starter=starter())).started
    (second,) = kernel.dispatch(FinishStages(outcomes=(outcome(first),), starter=starter())).finished[0].next
    for run in runs:
        pause_run(run)

    kernel.dispatch(FinishStages(outcomes=(outcome(second),)))
    assert cancel_run(runs[1]) is True

    found = {run.pk: run for run in WorkflowRun.objects.all()}
    assert [(found[run.pk].status, found[run.pk].paused_at) for run in runs] == [
        ("COMPLETED", None),
        ("CANCELLED", None),
    ]
    check_all()


@pytest.mark.django_db(transaction=True)
def test_resuming_rings_where_the_run_has_something_to_start(kernel: Kernel) -> None:
    pending, running = create_run("chain", {"value": 1}), create_run("fan", {"value": 1})
    (first,) = kernel.dispatch(ClaimPendingRuns(run_id=running.pk, starter=starter())).started
    pause_run(pending)
    pause_run(running)
    kernel.dispatch(FinishStages(outcomes=(outcome(first),), starter=starter()))
    assert isinstance(kernel.ports.transport, SilentTransport)
    kernel.ports.transport.pushed.clear()

    resume_run(pending)
    assert pushed(kernel) == ["workflows"]
    resume_run(running)

    # Once for both of its stages.
    assert pushed(kernel) == ["workflows"] * 2


@pytest.mark.django_db(transaction=True)
def test_async_code_pauses_too() -> None:
    run = create_run("chain", {"value": 1})

    async def pause_and_resume() -> tuple[bool, bool, bool]:
        # One thread, whose connection is closed at the end: the loop's threads end with it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        try:
            return await apause_run(run), await aresume_run(run), await aresume_run(run)
        finally:
            await sync_to_async(connections.close_all, thread_sensitive=False)()

    assert asyncio.run(pause_and_resume()) == (True, True, False)
