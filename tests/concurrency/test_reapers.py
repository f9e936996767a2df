"""Two janitors at the same moment: real threads on the real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from tests.concurrency.threads import together
from tests.invariants import check_all
from tests.janitors import worker
from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, ClaimPendingRuns, ReapStuckRuns, ReapUnknown, TransitionRun
from workflow_engine.models import OutboxEvent, StageRun, WorkerHeartbeat, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 30


@pytest.fixture
def real(known: Any) -> Iterator[Kernel]:
    """Return the kernel of the project's settings: real clock, real transport."""
    known(chain(2), fan(2))
    yield get_kernel()


def test_t52_two_reapers_fail_a_dead_run_once(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        real.dispatch(ClaimPendingRuns(run_id=run.pk))
        StageRun.objects.filter(run=run).update(status="CANCELLED", finished_at=timezone.now())

        results = together([lambda: real.dispatch(ReapStuckRuns())] * 2)

        assert sorted(len(result.failed) for result in results) == [0, 1]
        assert OutboxEvent.objects.filter(run=run, type="run.failed").count() == 1

    assert check_all() == ROUNDS


def test_a_reaper_and_a_transition_advance_a_run_once(real: Kernel) -> None:
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        real.dispatch(ClaimPendingRuns(run_id=run.pk))
        StageRun.objects.filter(run=run).update(status="COMPLETED", finished_at=timezone.now())

        reaped, transition = together(
            [lambda: real.dispatch(ReapStuckRuns()), lambda r=run: real.dispatch(TransitionRun(run_id=r.pk))]
        )

        assert (len(reaped.transitioned), transition.action) in {(1, "noop"), (0, "advanced")}
        assert StageRun.objects.filter(run=run, stage="add-2").count() == 1


def test_two_janitors_give_up_what_nobody_knows_once(real: Kernel) -> None:
    real.dispatch(Beat(worker=worker({"other": []}), running={}))
    WorkerHeartbeat.objects.update(started_at=F("started_at") - timedelta(hours=3))
    for _ in range(ROUNDS):
        waiting, begun = (create_run("chain", {"value": 1}) for _ in range(2))
        real.dispatch(ClaimPendingRuns(run_id=begun.pk))
        long_ago = timezone.now() - timedelta(hours=2)
        WorkflowRun.objects.filter(pk=waiting.pk).update(unknown_since=long_ago)
        StageRun.objects.filter(run=begun).update(unknown_since=long_ago)

        results = together([lambda: real.dispatch(ReapUnknown())] * 2)

        failed: list[uuid.UUID] = [pk for result in results for pk in result.failed]
        assert sorted(failed) == sorted([waiting.pk, begun.stage_runs.get().pk])

    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"FAILED"}
    assert check_all() == 2 * ROUNDS


def test_a_worker_that_comes_back_races_the_janitor_and_the_run_has_one_end(real: Kernel) -> None:
    real.dispatch(Beat(worker=worker({"other": []}), running={}))
    WorkerHeartbeat.objects.update(started_at=F("started_at") - timedelta(hours=3))
    for _ in range(ROUNDS):
        run = create_run("chain", {"value": 1})
        WorkflowRun.objects.filter(pk=run.pk).update(unknown_since=timezone.now() - timedelta(hours=2))

        reaped, claimed = together(
            [lambda: real.dispatch(ReapUnknown()), lambda r=run: real.dispatch(ClaimPendingRuns(run_id=r.pk))]
        )

        assert len(reaped.failed) + len(claimed.claimed) == 1

    check_all()
