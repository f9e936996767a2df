from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    Beat,
    ClaimPendingRuns,
    ReapStaleLeases,
    ReportDeadWorkers,
    StartStages,
    WorkerFacts,
)
from workflow_engine.models import StageAttempt, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.testing import FakeClock

# 30 s of lease and one beat of 10 s of grace.
OVER = timedelta(seconds=41)


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(1), fan(3))


def facts() -> WorkerFacts:
    return WorkerFacts(id=uuid.uuid4(), name="w", host="h", pid=1, version="0", slots=8, workflows=("chain",))


def take(kernel: Kernel, worker: WorkerFacts, slots: int = 8, *, alone: bool = False, idle: bool = False) -> list[Any]:
    starter = Starter(worker_id=worker.id, slots=slots, alone=alone)
    started = kernel.dispatch(ClaimPendingRuns(starter=starter)).started
    return list(started + kernel.dispatch(StartStages(starter=starter, idle=idle)).started)


def test_a_beat_registers_renews_and_tells_what_was_lost(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    create_run("chain", {"value": 1})
    started = take(kernel, worker)[0]
    running = {started.stage_run_id: started.token}

    first = kernel.dispatch(Beat(worker=worker, running=running))
    clock.advance(timedelta(seconds=10))
    StageRun.objects.update(token=7)
    second = kernel.dispatch(Beat(worker=worker, running=running))

    row = WorkerHeartbeat.objects.get()
    assert (row.beat_at, row.lease_until) == (clock.now(), clock.now() + timedelta(seconds=30))
    assert (first.lost, dict(first.unknown)) == (frozenset(), {})
    assert (second.lost, dict(second.unknown)) == (frozenset({started.stage_run_id}), {started.stage_run_id: 7})


def test_stages_of_a_living_worker_are_left_alone_however_long_they_run(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    create_run("chain", {"value": 1})
    take(kernel, worker)
    for _ in range(200):
        kernel.dispatch(Beat(worker=worker, running={}))
        clock.advance(timedelta(seconds=30))

    assert kernel.dispatch(ReapStaleLeases()).released == ()


def test_a_dead_workers_stage_comes_back_after_lease_and_grace_with_a_new_token(
    kernel: Kernel, clock: FakeClock
) -> None:
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    run = create_run("chain", {"value": 1})
    started = take(kernel, worker)[0]
    clock.advance(timedelta(seconds=39))
    assert kernel.dispatch(ReapStaleLeases()).released == ()
    clock.advance(timedelta(seconds=2))

    assert kernel.dispatch(ReapStaleLeases()).released == (started.stage_run_id,)

    row = StageRun.objects.get()
    assert (row.status, row.worker, row.suspect, row.crashes) == ("PENDING", None, True, 0)
    assert row.token > started.token
    assert StageAttempt.objects.get().outcome == "lost"
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"


def test_a_stage_of_a_worker_that_left_no_row_comes_back_too(kernel: Kernel) -> None:
    create_run("chain", {"value": 1})
    take(kernel, facts())

    assert len(kernel.dispatch(ReapStaleLeases()).released) == 1


def test_a_suspect_runs_alone_and_only_on_an_idle_worker(kernel: Kernel, clock: FakeClock) -> None:
    create_run("chain", {"value": 1})
    create_run("chain", {"value": 2})
    take(kernel, facts())
    kernel.dispatch(ReapStaleLeases())
    create_run("chain", {"value": 3})
    clock.advance(timedelta(seconds=60))
    busy, idle = facts(), facts()

    taken_busy = take(kernel, busy, idle=False)
    taken_idle = take(kernel, idle, idle=True)

    assert [item.alone for item in taken_busy] == [False]
    assert [item.alone for item in taken_idle] == [True]


def test_a_body_that_kills_its_worker_three_times_alone_is_given_up(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1})
    deliveries = 0
    for _ in range(10):
        deliveries += len(take(kernel, facts(), idle=True))
        kernel.dispatch(ReapStaleLeases())
        clock.advance(timedelta(minutes=5))

    # Once in company, which made it a suspect, and three times alone.
    assert deliveries == 4
    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.error["code"], run.error["stage"]) == ("FAILED", "WORKER_LOST", "add-1")
    row = StageRun.objects.get()
    assert (row.status, row.crashes, row.failures) == ("FAILED", 3, 0)
    assert [item.outcome for item in StageAttempt.objects.all()] == ["lost"] * 4


def test_what_a_frozen_worker_takes_when_its_lease_is_over_is_no_crash(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    create_run("chain", {"value": 1})
    kernel.dispatch(Beat(worker=worker, running={}))
    clock.advance(timedelta(seconds=30))
    taken = take(kernel, worker, alone=True, idle=True)
    clock.advance(OVER)

    result = kernel.dispatch(ReapStaleLeases())

    row = StageRun.objects.get()
    assert result.released == (taken[0].stage_run_id,)
    assert (row.status, row.crashes, row.suspect) == ("PENDING", 0, False)
    attempt = StageAttempt.objects.get()
    assert (attempt.outcome, "lease was over already" in attempt.error_message) == ("lost", True)


def test_innocent_neighbours_of_a_crash_are_never_failed(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("fan", {"value": 1})
    StageRun.objects.all()
    for _ in range(5):
        take(kernel, facts())
        kernel.dispatch(ReapStaleLeases())
        StageRun.objects.update(suspect=False)
        clock.advance(timedelta(minutes=5))

    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"
    assert StageRun.objects.get().crashes == 0


def test_a_worker_that_came_back_keeps_what_was_not_reaped_yet(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    create_run("chain", {"value": 1})
    take(kernel, worker)
    clock.advance(OVER)
    kernel.dispatch(Beat(worker=worker, running={}))

    assert kernel.dispatch(ReapStaleLeases()).released == ()


def test_nobody_waits_for_the_lease_of_a_worker_that_is_known_to_be_dead(kernel: Kernel, clock: FakeClock) -> None:
    dead, other = facts(), facts()
    create_run("chain", {"value": 1})
    for worker in (dead, other):
        kernel.dispatch(Beat(worker=worker, running={}))
    clock.advance(timedelta(seconds=3))
    (taken,) = take(kernel, dead, alone=True, idle=True)
    clock.advance(timedelta(seconds=3))
    assert kernel.dispatch(ReapStaleLeases()).released == ()

    report = ReportDeadWorkers(workers=[dead.id, uuid.uuid4()])
    assert (kernel.dispatch(report).reported, kernel.dispatch(report).reported) == (1, 0)
    assert kernel.dispatch(ReapStaleLeases()).released == (taken.stage_run_id,)

    # It ran when its worker died, so that is a crash.
    assert StageRun.objects.get().crashes == 1
    died, lives = (WorkerHeartbeat.objects.get(pk=worker.id) for worker in (dead, other))
    assert (died.lease_until, died.stopped_at, died.has_died) == (clock.now(), clock.now(), True)
    assert (lives.stopped_at, lives.has_died) == (None, False)


def test_a_report_makes_no_lease_last_longer(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    before = WorkerHeartbeat.objects.get().lease_until
    clock.advance(OVER)

    kernel.dispatch(ReportDeadWorkers(workers=[worker.id]))

    assert WorkerHeartbeat.objects.get().lease_until == before


def test_a_worker_that_was_reported_by_mistake_beats_on(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    create_run("chain", {"value": 1})
    take(kernel, worker)
    kernel.dispatch(ReportDeadWorkers(workers=[worker.id]))

    kernel.dispatch(Beat(worker=worker, running={}))

    assert kernel.dispatch(ReapStaleLeases()).released == ()
    assert WorkerHeartbeat.objects.alive(clock.now()).count() == 1


def test_the_last_beat_ends_the_lease_at_once(kernel: Kernel, clock: FakeClock) -> None:
    worker = facts()
    kernel.dispatch(Beat(worker=worker, running={}))
    kernel.dispatch(Beat(worker=worker, running={}, stopping=True))

    assert WorkerHeartbeat.objects.alive(clock.now() + timedelta(seconds=1)).count() == 0
    row = WorkerHeartbeat.objects.get()
    assert (row.stopped_at, row.has_died) == (clock.now(), False)
