"""The races that decide: real threads on the real database, the kernel's own clock."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.invariants import check_all
from tests.workflows import chain, fan
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    FinishStages,
    Outcome,
    ReapStaleLeases,
    StartStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import IdempotencyKey, OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 200


@pytest.fixture
def real(known: Any) -> Iterator[Kernel]:
    """Return the kernel of the project's settings: real clock, real transport."""
    known(chain(1), chain(2, "chain-2"), fan(2))
    yield get_kernel()


def start_one(kernel: Kernel, run_id: uuid.UUID, slots: int = 1) -> tuple[StartedStage, ...]:
    starter = Starter(worker_id=uuid.uuid4(), slots=slots)
    claimed = kernel.dispatch(ClaimPendingRuns(max_claims=1, run_id=run_id, starter=starter)).started
    return claimed or kernel.dispatch(StartStages(starter=starter, run_id=run_id)).started


def finish(kernel: Kernel, started: StartedStage) -> str:
    outcome = Outcome(started, Completed(inline({"value": 1})), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def test_eight_threads_claim_five_hundred_runs_each_once(real: Kernel) -> None:
    for _ in range(500):
        create_run("chain", {"value": 1})

    def claim() -> list[uuid.UUID]:
        mine: list[uuid.UUID] = []
        while True:
            starter = Starter(worker_id=uuid.uuid4(), slots=7)
            result = real.dispatch(ClaimPendingRuns(max_claims=7, starter=starter))
            mine += result.claimed
            # SKIP LOCKED may show nothing while others hold the rest; only an empty queue ends the work.
            if not result.claimed and not WorkflowRun.objects.filter(status="PENDING").exists():
                return mine

    shares = together([claim] * 8)

    counts = Counter(run_id for share in shares for run_id in share)
    assert len(counts) == 500
    assert set(counts.values()) == {1}
    assert StageRun.objects.filter(status="RUNNING", token=1).count() == 500
    assert OutboxEvent.objects.filter(type="run.started").count() == 500
    check_all()


def test_cancel_against_finish_gives_one_terminal_state_and_event(real: Kernel) -> None:
    won: Counter[tuple[str, bool]] = Counter()
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        (started,) = start_one(real, run.pk)

        kind, cancelled = together([lambda s=started: finish(real, s), lambda r=run: cancel_run(r)])

        assert (kind, cancelled) in {("completed", False), ("ghost", True)}
        won[kind, cancelled] += 1
        run.refresh_from_db()
        assert run.status == ("CANCELLED" if cancelled else "COMPLETED")

    assert check_all() == ROUNDS
    assert sum(won.values()) == ROUNDS


def test_two_siblings_that_finish_together_advance_the_run_once(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = create_run("fan", {"value": 1})
        (first,) = start_one(real, run.pk)
        finish(real, first)
        siblings = start_one(real, run.pk, slots=2)
        assert len(siblings) == 2

        kinds = together([lambda s=stage: finish(real, s) for stage in siblings])

        assert kinds == ["completed", "completed"]
        assert StageRun.objects.filter(run=run, stage="total").count() == 1

    assert check_all() == ROUNDS


def test_concurrent_twins_of_a_key_give_one_run_and_the_same_answer(real: Kernel) -> None:
    for number in range(20):

        def create(key: str = f"key-{number}") -> tuple[uuid.UUID, bool]:
            run = create_run("chain", {"value": 1}, idempotency_key=key)
            return run.pk, run.was_created

        answers = together([create] * 8)

        assert len({pk for pk, _ in answers}) == 1
        assert [created for _, created in answers].count(True) == 1

    assert WorkflowRun.objects.count() == IdempotencyKey.objects.count() == 20
    check_all()


def test_one_due_stage_is_started_by_one_of_many_workers(real: Kernel) -> None:
    for _ in range(50):
        run = create_run("chain", {"value": 1})
        real.dispatch(ClaimPendingRuns())

        def start(run_id: uuid.UUID = run.pk) -> int:
            starter = Starter(worker_id=uuid.uuid4(), slots=1)
            return len(real.dispatch(StartStages(starter=starter, run_id=run_id)).started)

        assert sum(together([start] * 4)) == 1

    assert check_all() == 50


def test_a_late_finish_against_the_reaper_gives_one_winner(real: Kernel) -> None:
    kinds: Counter[str] = Counter()
    for _ in range(100):
        run = create_run("chain", {"value": 1})
        # Its worker never beat, so the reaper may take the stage at once.
        (started,) = start_one(real, run.pk)

        kind, reaped = together([lambda s=started: finish(real, s), lambda: real.dispatch(ReapStaleLeases())])

        kinds[kind] += 1
        assert (kind == "ghost") == (started.stage_run_id in reaped.released)

    check_all()
    assert kinds.total() == 100


def test_two_reapers_count_one_crash(real: Kernel) -> None:
    for _ in range(50):
        run = create_run("chain", {"value": 1})
        start_one(real, run.pk)

        results = together([lambda: real.dispatch(ReapStaleLeases())] * 2)

        assert sum(len(result.released) for result in results) == 1

    check_all()


def test_cancel_finish_and_start_on_the_same_runs_never_deadlock_for_good(real: Kernel) -> None:
    runs = [create_run("fan", {"value": 1}) for _ in range(40)]

    def work() -> None:
        worker = uuid.uuid4()
        while WorkflowRun.objects.filter(status__in=["PENDING", "RUNNING"]).exists():
            starter = Starter(worker_id=worker, slots=3)
            stages = list(real.dispatch(ClaimPendingRuns(max_claims=2, starter=starter)).started)
            stages += real.dispatch(StartStages(starter=starter)).started
            for stage in stages:
                finish(real, stage)

    def cancel() -> int:
        return sum(cancel_run(run) for run in runs[::3])

    cancelled = together([work, work, work, cancel])[3]

    assert check_all() == 40
    assert WorkflowRun.objects.filter(status="CANCELLED").count() == cancelled
    assert WorkflowRun.objects.filter(status="COMPLETED").count() == 40 - cancelled
