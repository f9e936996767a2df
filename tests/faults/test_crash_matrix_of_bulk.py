"""A real worker process dies by SIGKILL in the middle of a bulk operation; others go on; each run is done once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.bulk.operations import carry_out, events, figures, outcomes
from tests.faults.callers import killed_caller
from tests.faults.takeover import killed, take_over
from tests.faults.workflows import crashing
from tests.invariants import check_all
from workflow_engine import NewRun, cancel_bulk, cancel_run, cancel_runs, create_runs, pause_runs, rerun_runs
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.models import BulkOperation, BulkTarget, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
KILLED = (points.BULK_TAKEN, points.BULK_IN_TX, points.BULK_AFTER, points.BULK_END_IN_TX)
BULK_POINTS = (points.BULK_START_IN_TX, *KILLED)
# An operation ends once.
CASES = [(point, hit) for point in KILLED for hit in (1, 2) if (point, hit) != (points.BULK_END_IN_TX, 2)]
COUNT = 120


@pytest.fixture
def runs() -> Iterator[list[WorkflowRun]]:
    with registry_override(crashing):
        results = create_runs([NewRun(crashing, "input") for _ in range(COUNT)])
        rows = WorkflowRun.objects.filter(pk__in=[one.run_id for one in results])
        # So that workers leave them alone, whatever they are told.
        operation = pause_runs(rows)
        carry_out(get_kernel())
        assert figures(operation)[2] == COUNT
        yield list(rows.order_by("pk"))


def ended(operation: BulkOperation) -> bool:
    return not BulkOperation.objects.open().filter(pk=operation.pk).exists()


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_a_killed_orchestrator_costs_nothing_but_time(runs: list[WorkflowRun], point: str, hit: int) -> None:
    cancel_run(runs[3])
    already = 1
    operation = cancel_runs([*runs, uuid.uuid4()], reason="wrong file")

    killed(f"{point}:{hit}")
    assert not ended(operation)
    # At whatever instant: what has happened and what is written of it are the same.
    changed = BulkTarget.objects.filter(operation=operation, outcome="changed").count()
    assert WorkflowRun.objects.filter(status="CANCELLED").count() == changed + already
    take_over(lambda: ended(operation), workers=2)

    assert figures(operation) == ("COMPLETED", COUNT + 1, COUNT - already, already, 1)
    assert outcomes(operation) == {"changed": COUNT - already, "unchanged": already, "failed": 1}
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"CANCELLED"}
    assert set(events("run.cancelled").values()) == {1}
    check_all()


def test_a_rerun_of_many_that_is_killed_reruns_each_once(runs: list[WorkflowRun]) -> None:
    for run in runs[:30]:
        cancel_run(run)
    operation = rerun_runs(runs[:30], "first")

    killed(f"{points.BULK_IN_TX}:5", "--queues", "nobodys")
    take_over(lambda: ended(operation), "--queues", "nobodys")

    assert figures(operation) == ("COMPLETED", 30, 30, 0, 0)
    assert set(WorkflowRun.objects.filter(pk__in=[run.pk for run in runs[:30]]).values_list("generation")) == {(1,)}
    assert set(events("run.rerun").values()) == {1}
    check_all()


def test_whoever_dies_while_it_makes_or_cancels_one_has_not_done_it(runs: list[WorkflowRun]) -> None:
    before = BulkOperation.objects.count()
    killed_caller(points.BULK_START_IN_TX, lambda: cancel_runs(runs))
    assert BulkOperation.objects.count() == before
    assert BulkTarget.objects.open().count() == 0

    operation = cancel_runs(runs)
    killed_caller(points.BULK_END_IN_TX, lambda: cancel_bulk(operation))

    assert figures(operation)[0] == "PENDING"
    assert BulkTarget.objects.open().count() == COUNT
    assert cancel_bulk(operation)
