"""Races around suspended stages: many that answer, check and wake at once, on every database."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.invariants import check_all
from workflow_engine import Completion, Output, Wait, answer_stage, cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.results import Completed, Suspended, Suspension
from workflow_engine.errors import InvalidTransition
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.checked import CheckOutcome
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    FinishChecks,
    FinishStages,
    Outcome,
    PollSuspendedStages,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.models import OutboxEvent, StageMemo, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
ASK = Wait("ask", int, max_wait=timedelta(days=1), default=0)


@stage("asks", waits=[ASK])
def asks(ctx: StageContext[None]) -> int:
    return ctx.wait_for(ASK)


@asks.check_completion
def check(ctx: StageContext[None], state: Any) -> Completion[int]:
    raise AssertionError("made by hand")


@pytest.fixture
def real(known: Any) -> Iterator[Kernel]:
    known(define_workflow("asking").pipe(asks).build())
    yield get_kernel()


def suspended(kernel: Kernel, count: int, suspension: Suspension) -> list[WorkflowRun]:
    """Return so many runs whose only stage waits."""
    runs = [create_run("asking") for _ in range(count)]
    started = kernel.dispatch(ClaimPendingRuns(max_claims=count, starter=Starter(uuid.uuid4(), count))).started
    for one in started:
        kernel.dispatch(FinishStages(outcomes=(Outcome(one, Suspended(suspension), timedelta(0)),)))
    return runs


def test_of_many_answers_at_once_one_counts(real: Kernel) -> None:
    for run in suspended(real, 20, Suspension("answer", "ask", max_wait=timedelta(days=1))):

        def give(value: int, run: WorkflowRun = run) -> int | None:
            try:
                answer_stage(run, asks, value)
            except InvalidTransition:
                return None
            return value

        given = [value for value in together([lambda v=value: give(v) for value in range(6)]) if value is not None]

        assert len(given) == 1
        assert StageMemo.objects.get(run=run).get_value() == given[0]
        assert OutboxEvent.objects.filter(run=run, type="stage.answered").count() == 1

    check_all()


def test_an_answer_against_the_deadline_gives_one_of_both(real: Kernel) -> None:
    kinds: Counter[str] = Counter()
    for run in suspended(real, 40, Suspension("answer", "ask", max_wait=timedelta(microseconds=1))):

        def give(run: WorkflowRun = run) -> bool:
            try:
                return answer_stage(run, asks, 5)
            except InvalidTransition:
                return False

        given, woken = together([give, lambda r=run: real.dispatch(WakeSuspendedStages(run_id=r.pk))])

        memo = StageMemo.objects.get(run=run)
        assert (memo.kind == "answer") is given
        assert bool(woken.resumed) is not given
        kinds[memo.kind] += 1

    assert kinds.total() == 40
    check_all()


def test_each_due_check_is_claimed_by_one_of_many_pollers(real: Kernel) -> None:
    poll = Suspension("poll", state=inline(None), wake_in=timedelta(0), poll_every=timedelta(hours=1))
    runs = suspended(real, 60, poll)

    def poller() -> list[uuid.UUID]:
        mine: list[uuid.UUID] = []
        worker = uuid.uuid4()
        # Rows that others hold just now are left out: only when nothing is due any more there is nothing left.
        while StageRun.objects.filter(status="SUSPENDED", worker=None).exists():
            for claimed in real.dispatch(PollSuspendedStages(worker_id=worker, max=7)).claimed:
                mine.append(claimed.stage.run_id)
        return mine

    counts = Counter(run_id for share in together([poller] * 5) for run_id in share)

    assert counts == Counter(run.pk for run in runs)
    assert set(StageRun.objects.values_list("token", flat=True)) == {2}


def test_a_check_that_is_ready_against_a_cancellation_gives_one_end(real: Kernel) -> None:
    poll = Suspension("poll", state=inline(None), wake_in=timedelta(0), poll_every=timedelta(hours=1))
    for run in suspended(real, 60, poll):
        (claimed,) = real.dispatch(PollSuspendedStages(worker_id=uuid.uuid4(), run_id=run.pk)).claimed
        outcome = CheckOutcome(claimed, Completed(inline(1)), timedelta(0))

        finished, cancelled = together(
            [
                lambda o=outcome: real.dispatch(FinishChecks(outcomes=(o,))).finished[0].kind,
                lambda r=run: cancel_run(r),
            ]
        )

        assert (finished, cancelled) in {("completed", False), ("ghost", True)}

    check_all()


def test_many_wakers_wake_each_sleeper_once(real: Kernel) -> None:
    runs = suspended(real, 60, Suspension("timer", "t", wake_in=timedelta(0)))

    def wake() -> int:
        done = 0
        while StageRun.objects.filter(status="SUSPENDED").exists():
            done += len(real.dispatch(WakeSuspendedStages(max=9)).resumed)
        return done

    assert sum(together([wake] * 4)) == len(runs)
    check_all()


def test_a_condition_is_decided_once_by_many_workers(known: Any) -> None:
    @stage("first")
    def first(ctx: StageContext[int]) -> int:
        return ctx.input

    @stage("odd", when=Output(first) == 1)
    def odd(ctx: StageContext[int]) -> int:
        return ctx.input

    @stage("last")
    def last(ctx: StageContext[int]) -> int:
        return ctx.input

    known(define_workflow("odds", input=int).pipe(first).pipe(odd).pipe(last).build())
    kernel = get_kernel()
    for _ in range(30):
        run = create_run("odds", 2)
        host = InlineHost(kernel)
        host.execute(host.take(run.pk)[0])

        def start(run_id: uuid.UUID = run.pk) -> list[str]:
            starter = Starter(worker_id=uuid.uuid4(), slots=1)
            return [stage.stage_id for stage in kernel.dispatch(StartStages(starter=starter, run_id=run_id)).started]

        together([start] * 4)

        assert OutboxEvent.objects.filter(run=run, type="stage.skipped").count() == 1
        assert StageRun.objects.filter(run=run, stage="last").count() == 1

    check_all()
