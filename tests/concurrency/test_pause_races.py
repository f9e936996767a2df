"""Pauses, cancels and deadlines against whatever a worker does at the same moment, in both orders."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from tests.concurrency.test_races import finish, start_one
from tests.concurrency.threads import together
from tests.hosts.resting import holding
from tests.invariants import check_all, events
from tests.waiting import until
from tests.workflows import Number, add_stage, chain
from workflow_engine import cancel_run, create_run, pause_queue, pause_run, resume_queue, resume_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import define_workflow
from workflow_engine.definitions.results import Completed, Failed, StageError
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, ExpireRuns, FinishStages, Outcome, StartStages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import Pause, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unpaused")]
ROUNDS = 60
ERROR = StageError("STAGE_FAILED", "Broken", "no", "")


@pytest.fixture
def real(known: Any) -> Iterator[Kernel]:
    """Return the kernel of the project's settings: real clock, real transport."""
    pair = [add_stage("left"), add_stage("right")]
    known(
        chain(1),
        chain(2, "chain-2"),
        define_workflow("fast", input=Number).parallel(*pair, fail_fast=True).build(),
        define_workflow("timed", input=Number, timeout=timedelta(hours=1)).parallel(*pair).build(),
    )
    yield get_kernel()


def go_on(kernel: Kernel, started: StartedStage, *, as_one: bool = False) -> int:
    """Finish and go on with what follows, as a worker does; return how many stages follow."""
    outcome = Outcome(started, Completed(inline({"value": 1})), timedelta(0))
    starter = Starter(worker_id=started.worker_id, slots=1)
    finished = kernel.dispatch(FinishStages(outcomes=(outcome,), starter=starter, together=as_one)).finished
    if not finished:
        # Left out, or nobody knows: alone, and waiting for whoever holds the run.
        finished = kernel.dispatch(FinishStages(outcomes=(outcome,), starter=starter)).finished
    return len(finished[0].next)


def fail(kernel: Kernel, started: StartedStage, retry_in: timedelta | None) -> str:
    outcome = Outcome(started, Failed(ERROR, retry_in), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def nothing_started_while_paused(run: WorkflowRun) -> None:
    told = events(run)
    after = told[told.index("run.paused") + 1 :]
    upto = after.index("run.resumed") if "run.resumed" in after else len(after)
    assert "stage.started" not in after[:upto], told


@pytest.mark.parametrize("as_one", [False, True], ids=["alone", "together"])
def test_pause_against_a_finish_that_goes_on(real: Kernel, as_one: bool) -> None:
    won: Counter[int] = Counter()
    for _ in range(ROUNDS):
        run = create_run("chain-2", {"value": 1})
        (started,) = start_one(real, run.pk)

        followed, paused = together([lambda s=started: go_on(real, s, as_one=as_one), lambda r=run: pause_run(r)])

        assert paused is True
        second = StageRun.objects.get(run=run, stage="add-2")
        assert second.status == ("RUNNING" if followed else "PENDING")
        nothing_started_while_paused(run)
        won[followed] += 1

    assert check_all() == won.total() == ROUNDS


def test_pause_against_a_claim_and_a_start(real: Kernel) -> None:
    for number in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        if number % 2:
            real.dispatch(ClaimPendingRuns(run_id=run.pk))

        started, paused = together([lambda r=run: start_one(real, r.pk), lambda r=run: pause_run(r)])

        assert paused is True
        assert StageRun.objects.filter(run=run, status="RUNNING").count() == len(started)
        nothing_started_while_paused(run)

    check_all()


def test_resume_against_a_start_and_a_cancel(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        pause_run(run)

        started, resumed, cancelled = together(
            [lambda r=run: start_one(real, r.pk), lambda r=run: resume_run(r), lambda r=run: cancel_run(r)]
        )

        row = WorkflowRun.objects.get(pk=run.pk)
        assert (cancelled, row.status, row.paused_at) == (True, "CANCELLED", None)
        assert ("run.resumed" in events(run)) == resumed
        assert resumed or not started
        nothing_started_while_paused(run)

    check_all()


def test_two_that_pause_and_two_that_resume_change_it_once_each(real: Kernel) -> None:
    for _ in range(20):
        run = create_run("chain", {"value": 1})

        assert sum(together([lambda r=run: pause_run(r)] * 3)) == 1
        assert sum(together([lambda r=run: resume_run(r)] * 3)) == 1
        assert sum(together([lambda: pause_queue("q")] * 3)) == 1
        assert sum(together([lambda: resume_queue("q")] * 3)) == 1

    assert not Pause.objects.exists()
    check_all()


def test_cancel_against_a_retry_and_a_start(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        (started,) = start_one(real, run.pk)

        kind, cancelled, again = together(
            [
                lambda s=started: fail(real, s, timedelta(0)),
                lambda r=run: cancel_run(r),
                lambda r=run: start_one(real, r.pk),
            ]
        )

        assert (cancelled, WorkflowRun.objects.get(pk=run.pk).status) == (True, "CANCELLED")
        assert kind in ("retrying", "ghost")
        assert not again or kind == "retrying"
        assert events(run)[-1] == "run.cancelled"

    check_all()


def test_a_deadline_against_a_finish_gives_one_end(real: Kernel) -> None:
    won: Counter[str] = Counter()
    for _ in range(ROUNDS):
        run = create_run("timed", {"value": 1})
        left, right = start_one(real, run.pk, slots=2)
        finish(real, left)
        WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))

        kind, expired = together([lambda s=right: finish(real, s), lambda: real.dispatch(ExpireRuns()).expired])

        assert (kind == "ghost") == (run.pk in expired)
        won[kind] += 1

    assert check_all() == won.total() == ROUNDS


def test_two_failures_and_a_success_in_a_group_that_fails_fast_give_one_end(real: Kernel) -> None:
    for number in range(ROUNDS):
        run = create_run("fast", {"value": 1})
        left, right = start_one(real, run.pk, slots=2)

        def end(stage: StartedStage = right, fails: bool = number % 2 == 1) -> str:
            return fail(real, stage, None) if fails else finish(real, stage)

        kinds = together([lambda s=left: fail(real, s, None), end])

        row = WorkflowRun.objects.get(pk=run.pk)
        assert row.status == "FAILED"
        # Whoever was first: the other one's stage was cancelled before it could end.
        winners = [stage.stage_id for stage, kind in zip((left, right), kinds, strict=True) if kind == "failed"]
        assert row.error["stage"] in winners
        assert not StageRun.objects.filter(run=run, status__in=["PENDING", "RUNNING"]).exists()

    check_all()


@pytest.mark.postgresql
@pytest.mark.parametrize("change", [pause_run, resume_run, cancel_run])
def test_a_change_waits_for_whoever_holds_the_run(real: Kernel, change: Callable[..., bool]) -> None:
    run = create_run("chain", {"value": 1})
    if change is resume_run:
        pause_run(run)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: (done.append(change(run)), connections.close_all()))  # type: ignore[func-returns-value]

    with holding(run):
        thread.start()
        until(lambda: waiting_for_locks() == 1, "it waits for the run's lock")
        assert done == []
    thread.join(30)

    assert done == [True]
    check_all()


@pytest.mark.postgresql
def test_whoever_looks_for_work_or_deadlines_passes_a_held_run_by(real: Kernel) -> None:
    run, other = (create_run("timed", {"value": 1}) for _ in range(2))
    for each in (run, other):
        real.dispatch(ClaimPendingRuns(run_id=each.pk))
    starter = Starter(worker_id=uuid.uuid4(), slots=4)

    with holding(run):
        started = real.dispatch(StartStages(starter=starter)).started
        assert {stage.run_id for stage in started} == {other.pk}
        WorkflowRun.objects.filter(pk=other.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
        result = real.dispatch(ExpireRuns())
        assert (result.expired, result.kept) == ((other.pk,), 0)

    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    with holding(run):
        assert real.dispatch(ExpireRuns()).kept == 1
    assert real.dispatch(ExpireRuns()).expired == (run.pk,)
    check_all()


def waiting_for_locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])
