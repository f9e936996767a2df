"""Workers that have lost a stage, or whose clock is wrong: P14 and P15 of the comparison page."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.invariants import check_all
from tests.janitors import pass_time, worker
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions.results import Completed, Failed, StageError, Suspended, Suspension
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    Beat,
    ClaimPendingRuns,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    ReleaseStages,
    StartStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock, create_test_kernel

OVER = timedelta(seconds=41)  # a lease of 30 s and one beat of 10 s
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
A, B = worker({"chain": ["add-1", "add-2"]}), worker({"chain": ["add-1", "add-2"]})
ERROR = StageError("STAGE_FAILED", "Broken", "broken")


def take(kernel: Kernel, worker_id: uuid.UUID) -> StartedStage:
    starter = Starter(worker_id=worker_id, slots=1, alone=True)
    claimed = kernel.dispatch(ClaimPendingRuns(starter=starter)).started
    return (claimed or kernel.dispatch(StartStages(starter=starter, idle=True)).started)[0]


def finish(kernel: Kernel, started: StartedStage, result: Any) -> str:
    outcome = Outcome(started, result, timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def rows() -> list[Any]:
    tables = (StageRun, WorkflowRun, OutboxEvent, StageAttempt, WorkerHeartbeat)
    return [list(table.objects.exclude(pk=A.id).order_by("pk").values()) for table in tables]  # type: ignore[attr-defined]


@pytest.fixture
def taken_over(kernel: Kernel, clock: FakeClock, known: Any) -> tuple[StartedStage, StartedStage]:
    """The attempt that A has lost, and the one that B has."""
    known(chain(2))
    create_run("chain", {"value": 1})
    pass_time(kernel, clock, timedelta(0), A)
    stale = take(kernel, A.id)
    pass_time(kernel, clock, OVER, B)
    kernel.dispatch(ReapStaleLeases())
    pass_time(kernel, clock, timedelta(seconds=10), B)
    return stale, take(kernel, B.id)


STALE: dict[str, Callable[[Kernel, StartedStage], object]] = {
    "complete": lambda kernel, stage: finish(kernel, stage, Completed(inline({"value": 99}))),
    "fail": lambda kernel, stage: finish(kernel, stage, Failed(ERROR, None)),
    "retry": lambda kernel, stage: finish(kernel, stage, Failed(ERROR, timedelta(0))),
    "suspend": lambda kernel, stage: finish(kernel, stage, Suspended(Suspension("timer", "t", wake_in=DAY))),
    "release": lambda kernel, stage: (
        kernel.dispatch(ReleaseStages(worker_id=A.id, tokens={stage.stage_run_id: stage.token})).released
    ),
}


@pytest.mark.parametrize("how", STALE)
def test_p14_a_worker_that_lost_its_stage_settles_nothing_of_whoever_has_it_now(
    kernel: Kernel, taken_over: tuple[StartedStage, StartedStage], how: str
) -> None:
    stale, held = taken_over
    before = rows()

    assert STALE[how](kernel, stale) in ("ghost", ())

    assert rows() == before
    assert finish(kernel, held, Completed(inline({"value": 2}))) == "completed"
    check_all()


def test_p14_a_worker_that_lost_its_stage_is_told_and_keeps_nobody_elses_lease_alive(
    kernel: Kernel, clock: FakeClock, taken_over: tuple[StartedStage, StartedStage]
) -> None:
    stale, held = taken_over
    for _ in range(5):
        clock.advance(timedelta(seconds=10))
        # B is silent from here on.
        told = kernel.dispatch(Beat(worker=A, running={stale.stage_run_id: stale.token}))
        assert told.lost == {stale.stage_run_id}

    assert kernel.dispatch(ReapStaleLeases()).released == (held.stage_run_id,)


class OtherHost(FakeClock):
    """The clock of a host that is wrong; the database's, which is right, is shared."""

    def __init__(self, database: FakeClock, wrong_by: timedelta) -> None:
        super().__init__()
        self.database, self.wrong_by = database, wrong_by

    def now(self) -> datetime:
        return self.database.now() + self.wrong_by

    def db_now(self) -> datetime:
        return self.database.db_now()


@pytest.mark.django_db
@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_p15_clocks_that_differ_by_hours_take_no_stage_early_and_none_late(
    known: Any, clock: FakeClock, wrong_by: timedelta
) -> None:
    known(chain(2))
    theirs = create_test_kernel(clock=OtherHost(clock, wrong_by))
    reaper = create_test_kernel(clock=OtherHost(clock, -wrong_by))
    with use_kernel(theirs):
        create_run("chain", {"value": 1})
    theirs.dispatch(Beat(worker=A, running={}))
    started = take(theirs, A.id)

    for _ in range(5):
        clock.advance(timedelta(seconds=30))
        theirs.dispatch(Beat(worker=A, running={started.stage_run_id: started.token}))
        assert reaper.dispatch(ReapStaleLeases()).released == ()
    clock.advance(timedelta(seconds=39))
    assert reaper.dispatch(ReapStaleLeases()).released == ()
    clock.advance(timedelta(seconds=2))
    assert reaper.dispatch(ReapStaleLeases()).released == (started.stage_run_id,)


@pytest.mark.django_db
@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_p15_a_host_whose_clock_is_wrong_writes_and_compares_the_databases_time(
    known: Any, monkeypatch: pytest.MonkeyPatch, wrong_by: timedelta
) -> None:
    known(chain(2))
    right, kernel = timezone.now, get_kernel()
    begin = right() - timedelta(seconds=1)
    kernel.dispatch(Beat(worker=A, running={}))

    monkeypatch.setattr(timezone, "now", lambda: right() + wrong_by)
    run = create_run("chain", {"value": 1})
    take(kernel, A.id)
    assert kernel.dispatch(ReapStaleLeases()).released == ()
    kernel.dispatch(Beat(worker=A, running={}))
    monkeypatch.undo()

    row, lease = StageRun.objects.get(), WorkerHeartbeat.objects.get()
    times = [run.created_at, run.due_at, row.started_at, row.due_at, lease.beat_at, lease.lease_until]
    assert all(begin <= when <= right() + timedelta(seconds=31) for when in times if when is not None), times
