"""What the tests of janitors, drift and doctor share: workers that beat, and runs that something is wrong with."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta

from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, ClaimPendingRuns, WorkerFacts
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock


def worker(stages: Mapping[str, Sequence[str]]) -> WorkerFacts:
    """Return a worker whose code has these stages of these workflows."""
    return WorkerFacts(
        id=uuid.uuid4(),
        name="w",
        host="h",
        pid=1,
        version="0",
        slots=8,
        workflows=tuple(stages),
        stages={workflow: tuple(names) for workflow, names in stages.items()},
    )


def pass_time(kernel: Kernel, clock: FakeClock, delta: timedelta, *workers: WorkerFacts) -> None:
    """Let time pass while these workers beat."""
    clock.advance(delta)
    for one in workers:
        kernel.dispatch(Beat(worker=one, running={}))


def begin(kernel: Kernel, run: WorkflowRun) -> list[StageRun]:
    """Claim a run; return the rows of its first group, PENDING."""
    kernel.dispatch(ClaimPendingRuns(run_id=run.pk))
    return list(StageRun.objects.filter(run=run).in_order())


def set_stages(run: WorkflowRun, status: str, *stage_ids: str, **columns: object) -> None:
    """Make stages of a run what no command would make them (all of them, if none is named)."""
    rows = StageRun.objects.filter(run=run)
    if stage_ids:
        rows = rows.filter(stage__in=stage_ids)
    assert rows.update(status=status, **columns)
