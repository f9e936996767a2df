"""A real worker process dies by SIGKILL around maps and child runs; another one takes over; nothing is done twice."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from django.db import connection

from tests.faults.processes import stop, worker_process
from tests.faults.workflows import claims, expected_of_household, expense, grandchild, household
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import RunNotice, StageAttempt, StageMemo, StageRun, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ITEMS = 7
FAMILY_POINTS = (points.MAP_IN_TX, points.CHILD_IN_TX, points.NOTICE_IN_TX, points.NOTICE_AFTER)
# Others that lie between a map, its children and what they tell each other.
CASES = [
    (points.MAP_IN_TX, 1),
    *((point, hit) for point in FAMILY_POINTS[1:] for hit in (1, 3)),
    (points.CLAIM_IN_TX, 2),
    (points.START_IN_TX, 2),
    *((point, hit) for point in (points.COMPLETE_IN_TX, points.COMPLETE_AFTER) for hit in (3, 8)),
]


def all_finished() -> bool:
    return not WorkflowRun.objects.open().exists()


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_a_worker_killed_around_items_and_children_costs_nothing_but_time(point: str, hit: int) -> None:
    with registry_override(household, grandchild):
        run = create_run(household, ITEMS)
    connection.close()

    with worker_process(f"{point}:{hit}") as doomed:
        until(lambda: doomed.poll() is not None, f"the process passes {point} {hit} times and dies")
        assert doomed.poll() == -signal.SIGKILL
    end_with_a_healthy_worker()

    check_all()
    run.refresh_from_db()
    with registry_override(household, grandchild):
        assert (run.status, run.get_output()) == ("COMPLETED", expected_of_household(ITEMS))
    # One child per item, and one item per number: none was lost, none doubled.
    assert WorkflowRun.objects.filter(parent_run=run).count() == ITEMS
    assert StageMemo.objects.filter(run=run, kind="child").count() == ITEMS
    assert StageRun.objects.filter(run=run, map_index__gte=0, status="COMPLETED").count() == ITEMS
    assert StageAttempt.objects.filter(stage__in=("double", "more"), outcome="completed").count() == 2 * ITEMS
    assert not RunNotice.objects.exists()


@pytest.mark.parametrize("point", [points.NOTICE_IN_TX, points.NOTICE_AFTER])
def test_children_of_a_cancelled_parent_are_cancelled_whoever_dies(point: str) -> None:
    with registry_override(claims, expense):
        run = create_run(claims, ITEMS)
        waiting = StageRun.objects.suspended().filter(run__parent_run=run)
        with worker_process() as first:
            until(lambda: waiting.count() == 3, "three children wait for their manager")
            stop(first)
        cancel_run(run)
    connection.close()

    with worker_process(f"{point}:1") as doomed:
        until(lambda: doomed.poll() is not None, f"the process dies at {point}")
        assert doomed.poll() == -signal.SIGKILL
    end_with_a_healthy_worker()

    check_all()
    assert list(WorkflowRun.objects.values_list("status", flat=True)) == ["CANCELLED"] * 4


def end_with_a_healthy_worker(condition: Callable[[], bool] = all_finished) -> None:
    with worker_process() as healthy:
        until(lambda: condition() and not RunNotice.objects.exists(), "every run ends under a healthy worker")
        stop(healthy)
