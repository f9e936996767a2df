"""What the tests of bulk operations share."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workflow_engine import NewRun, create_runs
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CarryOutBulk
from workflow_engine.models import BulkOperation, BulkTarget, OutboxEvent, WorkflowRun


def make_runs(count: int, workflow: str = "chain", **options: Any) -> list[WorkflowRun]:
    """Create runs and return them in order."""
    results = create_runs([NewRun(workflow, {"value": number}, **options) for number in range(count)])
    return list(WorkflowRun.objects.filter(pk__in=[one.run_id for one in results]).order_by("pk"))


def carry_out(kernel: Kernel, most: int = 100) -> int:
    """Carry out all that is under way; return how many pages it took."""
    pages = 0
    while BulkOperation.objects.open().exists():
        kernel.dispatch(CarryOutBulk(max=most))
        pages += 1
        assert pages < 1000
    return pages


def figures(operation: BulkOperation) -> tuple[str, int, int, int, int]:
    """Return (status, total, changed, unchanged, failed) as the row has them."""
    operation.refresh_from_db()
    return (operation.status, operation.total, operation.changed, operation.unchanged, operation.failed)


def outcomes(operation: BulkOperation) -> dict[str, int]:
    return dict(Counter(BulkTarget.objects.filter(operation=operation).values_list("outcome", flat=True)))


def messages(operation: BulkOperation, outcome: str) -> set[str]:
    return set(BulkTarget.objects.filter(operation=operation, outcome=outcome).values_list("message", flat=True))


def events(kind: str) -> Counter[Any]:
    """Return how many events of a type each run has."""
    return Counter(OutboxEvent.objects.filter(type=kind).values_list("run_id", flat=True))
