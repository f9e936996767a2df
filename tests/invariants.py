"""What must hold of every run, whatever happened to it: the engine's own rules, as tests ask for them."""

from __future__ import annotations

from workflow_engine.models import OutboxEvent, WorkflowRun
from workflow_engine.testing.invariants import check_invariants


def check_all() -> int:
    """Check everything in the database, at whatever point its runs are; return how many there are."""
    check_invariants(quiet=False, blobs=False, pruned=False)
    return WorkflowRun.objects.count()


def check_run(run: WorkflowRun) -> None:
    check_invariants(quiet=False, pruned=False, runs=[run])


def events(run: WorkflowRun) -> list[str]:
    """Return the types of a run's events in order, having checked that their numbers have no gaps."""
    rows = list(OutboxEvent.objects.filter(run=run).order_by("sequence"))
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert WorkflowRun.objects.get(pk=run.pk).event_seq == len(rows)
    return [row.type for row in rows]
