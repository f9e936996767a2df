"""A stage begins to wait: for a time, for an answer, or for work that goes on elsewhere."""

from __future__ import annotations

from datetime import datetime

from workflow_engine.definitions.results import Suspended
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.statuses import MemoKind, WaitKind

from .advance import stage_event
from .events import RunSuspended, StageSuspended
from .started import StartedStage
from .unit_of_work import UnitOfWork


def suspend(work: UnitOfWork, row: StageRun, result: Suspended) -> bool:
    """RUNNING → SUSPENDED; False: the token is void. Times are spans from now on, the database's clock."""
    wanted, now = result.suspension, work.now
    until = None if wanted.max_wait is None else now + wanted.max_wait
    wake_at = wanted.wake_at if wanted.wake_in is None else now + wanted.wake_in
    if until is not None:
        # The deadline itself is something to be woken for.
        wake_at = until if wake_at is None else min(wake_at, until)
    return row.suspend(
        at=now,
        kind=wanted.kind,
        name=wanted.name,
        wake_at=wake_at,
        until=until,
        state=wanted.state,
        poll_every=wanted.poll_every,
        metrics=result.notes.metrics,
    )


def tell_suspended(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> None:
    """Write down that the stage waits, and when its timer is over."""
    if row.wait_kind == WaitKind.TIMER:
        # The attempt that follows finds it, and goes past this sleep.
        work.insert(StageMemo, [memo_row(work, row, MemoKind.TIMER, row.wait_name, due_at=row.wake_at)])
    told = StageSuspended(
        **stage_event(row),
        waits_for=row.wait_kind,
        wait=row.wait_name or None,
        wake_at=_iso(row.wake_at),
        wait_until=_iso(row.wait_until),
    )
    work.emit(run, told)
    work.emit(run, RunSuspended(workflow_id=run.workflow, stage_id=row.stage))


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def memo_row(
    work: UnitOfWork,
    row: StageRun | StartedStage,
    kind: MemoKind,
    name: str,
    *,
    value: dict[str, object] | None = None,
    due_at: datetime | None = None,
    actor: str = "",
) -> dict[str, object]:
    """Return a memo by column."""
    return {
        "run_id": row.run_id,
        "stage_run_id": row.pk,
        "kind": kind,
        "name": name,
        "value": value,
        "due_at": due_at,
        "token": row.token,
        "actor": actor,
        "created_at": work.now,
    }
