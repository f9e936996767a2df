"""A rerun against whatever else touches its run, on the real database and by the kernel's own clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.test_races import finish, start_one
from tests.concurrency.threads import together
from tests.invariants import check_all
from tests.workflows import chain, fan
from workflow_engine import cancel_run, create_run, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Notes
from workflow_engine.errors import InvalidTransition
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FinishStages, Outcome, RerunFrom
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 50


@pytest.fixture
def real(known: Any) -> Iterator[Kernel]:
    """Return the kernel of the project's settings: real clock, real transport."""
    known(chain(1), chain(2, "chain-2"), fan(2))
    yield get_kernel()


def ended(kernel: Kernel, workflow: str = "chain-2") -> WorkflowRun:
    """Return a run that is COMPLETED."""
    run = create_run(workflow, {"value": 1})
    while started := start_one(kernel, run.pk, slots=2):
        for one in started:
            finish(kernel, one)
    return run


def rerun(run: WorkflowRun, stage_id: str) -> bool:
    try:
        return bool(rerun_from(run, stage_id).generation)
    except InvalidTransition:
        return False


def finish_late(kernel: Kernel, stage: StartedStage, *, alone: bool) -> list[str]:
    """Finish an attempt whose token is void; whatever leaves it out says nothing of it."""
    outcome = Outcome(stage, Completed(inline({"value": 99}), Notes({"cost": 7.0})), timedelta(0))
    finished = kernel.dispatch(FinishStages(outcomes=(outcome,), together=not alone)).finished
    return [one.kind for one in finished]


def test_of_several_reruns_of_a_run_one_wins(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = ended(real)

        won = together(
            [lambda r=run: rerun(r, "add-1"), lambda r=run: rerun(r, "add-2"), lambda r=run: rerun(r, "add-1")]
        )

        run.refresh_from_db()
        assert won.count(True) == 1
        assert (run.status, run.generation) == ("RUNNING", 1)

    assert OutboxEvent.objects.filter(type="run.rerun").count() == check_all() == ROUNDS


def test_twins_of_a_key_rerun_once_and_get_the_same_answer(real: Kernel) -> None:
    for number in range(ROUNDS // 2):
        command = RerunFrom(run_id=ended(real).pk, stage_id="add-2", idempotency_key=f"key-{number}")

        answers = together([lambda c=command: real.dispatch(c)] * 4)

        assert {(one.generation, one.superseded) for one in answers} == {(1, ("add-2",))}
        assert [one.replayed for one in answers].count(False) == 1

    assert OutboxEvent.objects.filter(type="run.rerun").count() == check_all() == ROUNDS // 2


@pytest.mark.parametrize("alone", [True, False])
def test_a_late_finish_of_the_old_generation_writes_nothing_before_a_rerun_or_after_it(
    real: Kernel, alone: bool
) -> None:
    for first in ("finish", "rerun", "both"):
        run = create_run("chain", {"value": 1})
        (late,) = start_one(real, run.pk)
        cancel_run(run)
        steps = [lambda s=late: finish_late(real, s, alone=alone), lambda r=run: rerun(r, "add-1")]

        if first == "both":
            told, won = together(steps)
        elif first == "finish":
            told, won = [step() for step in steps]
        else:
            won, told = [step() for step in reversed(steps)]

        assert won
        assert told in (["ghost"], [])
        run.refresh_from_db()
        assert (run.status, run.generation, run.total_cost) == ("RUNNING", 1, 0)
        assert list(StageRun.objects.current().filter(run=run).values_list("status", "output")) == [("PENDING", None)]
        # And while the new attempt is at work.
        (new,) = start_one(real, run.pk)
        assert finish_late(real, late, alone=alone) in (["ghost"], [])
        assert finish(real, new) == "completed"

    assert check_all() == 3


def test_a_rerun_against_the_last_finish_waits_for_it_or_is_refused(real: Kernel) -> None:
    seen: Counter[bool] = Counter()
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        (started,) = start_one(real, run.pk)

        kind, won = together([lambda s=started: finish(real, s), lambda r=run: rerun(r, "add-1")])

        run.refresh_from_db()
        assert kind == "completed"
        assert (run.status, run.generation) == (("RUNNING", 1) if won else ("COMPLETED", 0))
        seen[won] += 1

    assert seen.total() == check_all() == ROUNDS


def test_a_rerun_against_a_cancel_gives_one_end_per_generation(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = ended(real)

        won, cancelled = together([lambda r=run: rerun(r, "add-2"), lambda r=run: cancel_run(r)])

        run.refresh_from_db()
        assert won
        assert run.status == ("CANCELLED" if cancelled else "RUNNING")

    assert check_all() == ROUNDS


def test_reruns_while_workers_are_at_work_never_deadlock_for_good(real: Kernel) -> None:
    runs = [create_run("fan", {"value": 1}) for _ in range(15)]
    left = [60]

    def work() -> None:
        while left[0] > 0 or WorkflowRun.objects.open().exists():
            for run in runs:
                for stage in start_one(real, run.pk, slots=3):
                    finish(real, stage)

    def again() -> int:
        count = 0
        while left[0] > 0:
            for number, run in enumerate(runs):
                count += rerun(run, ("first", "add-1", "total")[number % 3])
                left[0] -= 1
        return count

    done = together([work, work, again])[2]

    assert check_all() == 15
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"COMPLETED"}
    assert OutboxEvent.objects.filter(type="run.rerun").count() == done
