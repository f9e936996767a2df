"""A real worker process dies by SIGKILL around maps and child runs; another one takes over; nothing is done twice."""

from __future__ import annotations

import pytest

from tests.faults.takeover import all_ended, killed, take_over
from tests.faults.workflows import claims, expense
from tests.invariants import check_all
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import RunNotice, StageRun, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ITEMS = 7


def nothing_open() -> bool:
    return all_ended() and not RunNotice.objects.exists()


@pytest.mark.parametrize("point", [points.NOTICE_IN_TX, points.NOTICE_AFTER])
def test_children_of_a_cancelled_parent_are_cancelled_whoever_dies(point: str) -> None:
    with registry_override(claims, expense):
        run = create_run(claims, ITEMS)
        waiting = StageRun.objects.suspended().filter(run__parent_run=run)
        take_over(lambda: waiting.count() == 3)
        cancel_run(run)

    killed(f"{point}:1")
    take_over(nothing_open)

    check_all()
    assert list(WorkflowRun.objects.values_list("status", flat=True)) == ["CANCELLED"] * 4
