from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from tests.workflows import chain, fan
from workflow_engine import create_run
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import OutboxEvent, RunData, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock

CHAIN, FAN = chain(2), fan(3)


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(CHAIN, FAN)


def starter(slots: int = 10, **options: Any) -> Starter:
    return Starter(worker_id=uuid.uuid4(), slots=slots, **options)


def test_claims_go_by_priority_then_age_up_to_the_limit(kernel: Kernel, clock: FakeClock) -> None:
    low, early, late, high = (create_run(CHAIN, {"value": 1}, priority=priority).pk for priority in (1, 5, 5, 9))

    claimed = kernel.dispatch(ClaimPendingRuns(max_claims=3)).claimed

    assert claimed == (high, early, late)
    assert WorkflowRun.objects.get(pk=low).status == "PENDING"


def test_a_run_that_waits_long_enough_overtakes_higher_priority(kernel: Kernel, clock: FakeClock) -> None:
    old = create_run(CHAIN, {"value": 1}, priority=0).pk
    clock.advance(timedelta(minutes=51))
    create_run(CHAIN, {"value": 1}, priority=10)

    assert kernel.dispatch(ClaimPendingRuns(max_claims=1)).claimed == (old,)


def test_runs_that_are_not_due_paused_finished_or_unknown_are_left_alone(kernel: Kernel, clock: FakeClock) -> None:
    create_run(CHAIN, {"value": 1}, run_at=clock.now() + timedelta(seconds=1))
    paused, cancelled, unknown = (create_run(CHAIN, {"value": 1}).pk for _ in range(3))
    WorkflowRun.objects.filter(pk=paused).update(paused_at=clock.now())
    WorkflowRun.objects.filter(pk=cancelled).update(status="CANCELLED", finished_at=clock.now())
    WorkflowRun.objects.filter(pk=unknown).update(workflow="of-the-next-release")

    assert kernel.dispatch(ClaimPendingRuns()).claimed == ()
    clock.advance(timedelta(seconds=1))
    assert len(kernel.dispatch(ClaimPendingRuns()).claimed) == 1


def test_a_claimed_run_has_its_first_group_and_the_caller_may_start_what_it_can(kernel: Kernel) -> None:
    run = create_run(CHAIN, {"value": 1})

    result = kernel.dispatch(ClaimPendingRuns(starter=starter()))

    row = StageRun.objects.get()
    assert (row.run_id, row.stage, row.status, row.token, row.attempt) == (run.pk, "add-1", "RUNNING", 1, 1)
    assert [item.stage_run_id for item in result.started] == [row.pk]
    assert list(OutboxEvent.objects.order_by("sequence").values_list("type", flat=True)) == [
        "run.created",
        "run.started",
        "stage.started",
    ]
    run.refresh_from_db()
    assert (run.status, run.event_seq) == ("RUNNING", 3)


def test_a_caller_without_a_slot_or_queue_leaves_the_first_stage_pending(kernel: Kernel) -> None:
    create_run(CHAIN, {"value": 1})
    create_run(CHAIN, {"value": 1})

    kernel.dispatch(ClaimPendingRuns(max_claims=1))
    kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=starter(queues=("others",))))

    assert list(StageRun.objects.values_list("status", "token")) == [("PENDING", 0), ("PENDING", 0)]


def test_no_more_runs_are_claimed_than_the_caller_has_slots(kernel: Kernel) -> None:
    for _ in range(3):
        create_run(CHAIN, {"value": 1})

    result = kernel.dispatch(ClaimPendingRuns(max_claims=3, starter=starter(slots=2)))

    assert (len(result.claimed), len(result.started)) == (2, 2)


def test_a_run_whose_plan_is_empty_fails_and_the_next_is_claimed(kernel: Kernel) -> None:
    bad, good = (create_run(CHAIN, {"value": 1}).pk for _ in range(2))
    RunData.objects.filter(pk=bad).update(plan={"version": "1", "fingerprint": "", "groups": []})

    result = kernel.dispatch(ClaimPendingRuns())

    assert (result.failed, result.claimed) == ((bad,), (good,))
    assert WorkflowRun.objects.get(pk=bad).error["code"] == "EMPTY_PLAN"


def test_a_run_that_cannot_be_prepared_fails_alone(kernel: Kernel) -> None:
    bad, good = (create_run(CHAIN, {"value": 1}).pk for _ in range(2))
    RunData.objects.filter(pk=bad).update(plan={"groups": [{"stages": [{"no": "id"}]}]})

    result = kernel.dispatch(ClaimPendingRuns())

    assert (result.failed, result.claimed) == ((bad,), (good,))
    run = WorkflowRun.objects.get(pk=bad)
    assert (run.status, run.error["code"]) == ("FAILED", "CLAIM_FAILED")
    events = OutboxEvent.objects.filter(run=bad).order_by("sequence")
    assert list(events.values_list("type", flat=True)) == ["run.created", "run.failed"]


@pytest.mark.django_db(transaction=True)
def test_rows_left_by_an_interrupted_claim_are_reused_as_they_are(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(CHAIN, {"value": 1})
    StageRun.objects.create(
        run=run,
        stage="add-1",
        group_number=1,
        stage_number=1,
        queue="workflows",
        due_at=clock.now(),
        rank_at=clock.now(),
        status="COMPLETED",
        finished_at=clock.now(),
        output=inline({"value": 9}),
    )

    result = kernel.dispatch(ClaimPendingRuns(starter=starter()))

    assert (result.claimed, result.started) == ((run.pk,), ())
    assert StageRun.objects.get().status == "COMPLETED"


def test_only_the_named_run_is_claimed(kernel: Kernel) -> None:
    create_run(CHAIN, {"value": 1})
    mine = create_run(CHAIN, {"value": 1}).pk

    assert kernel.dispatch(ClaimPendingRuns(run_id=mine)).claimed == (mine,)
