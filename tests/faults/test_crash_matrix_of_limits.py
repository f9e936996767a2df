"""A real worker process dies by SIGKILL while it gives places of a limit: none is lost, and none given twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.takeover import killed, take_over
from tests.faults.workflows import crowded
from tests.invariants import check_all
from tests.limits.overlap import most_at_once
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import RunPlace, WorkflowRun
from workflow_engine.statuses import OPEN_RUN

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
LIMIT_POINTS = (points.PLACE_IN_TX,)
# With whatever is done between two places that are given: an end, the notice of it, the claim of the next run.
CASES = [(points.PLACE_IN_TX, hit) for hit in (1, 2, 7)] + [(points.COMPLETE_IN_TX, 4), (points.CLAIM_IN_TX, 3)]


@pytest.fixture
def runs() -> Iterator[list[WorkflowRun]]:
    with registry_override(crowded):
        yield [create_run(crowded, f"{key} {number}") for number in range(6) for key in "ab"]


def over() -> bool:
    return not WorkflowRun.objects.filter(status__in=OPEN_RUN).exists()


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_whoever_dies_while_places_are_given_leaves_all_of_them_to_the_next(
    runs: list[WorkflowRun], point: str, hit: int
) -> None:
    killed(f"{point}:{hit}")
    assert not over()
    take_over(over, workers=2)

    assert most_at_once() == {"a": 2, "b": 2}
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"COMPLETED"}
    assert not RunPlace.objects.waiting().exists()
    check_all()
