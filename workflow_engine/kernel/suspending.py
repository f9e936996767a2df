"""A stage begins to wait: for a time, for an answer, or for work that goes on elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta

from workflow_engine.definitions.results import Suspension
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.statuses import MemoKind, WaitKind

from . import points
from .events import RunSuspended, StageSuspended
from .started import StartedStage, stage_event
from .unit_of_work import UnitOfWork

# Items and children end by themselves. Now and then somebody looks whether that went unheard.
LOOK_AGAIN = timedelta(minutes=1)
UNTIMED = (WaitKind.ITEMS, WaitKind.CHILD)
ITEMS = Suspension("items", wake_in=LOOK_AGAIN)


def suspend(work: UnitOfWork, row: StageRun, wanted: Suspension, metrics: dict[str, float]) -> bool:
    """RUNNING → SUSPENDED; False: the token is void. Times are spans from now on, the database's clock."""
    now = work.now
    until = None if wanted.max_wait is None else now + wanted.max_wait
    wake_in = LOOK_AGAIN if wanted.kind == "child" else wanted.wake_in
    wake_at = wanted.wake_at if wake_in is None else now + wake_in
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
        metrics=metrics,
    )


def tell_suspended(work: UnitOfWork, run: WorkflowRun, row: StageRun, wanted: Suspension) -> None:
    """Write down that the stage waits, when its timer is over, and the run that it waits for."""
    from .children import start_child, tell_if_ended

    if row.wait_kind == WaitKind.TIMER:
        # The attempt that follows finds it, and goes past this sleep.
        work.insert(StageMemo, [memo_row(work, row, MemoKind.TIMER, row.wait_name, due_at=row.wake_at)])
    elif row.wait_kind == WaitKind.CHILD:
        points.hit(points.CHILD_IN_TX)
        if wanted.child is not None:
            start_child(work, run, row, wanted.child)
        else:
            tell_if_ended(work, run, row)
    told = StageSuspended(
        **stage_event(row),
        waits_for=row.wait_kind,
        wait=row.wait_name or None,
        wake_at=_iso(row.wake_at) if row.wait_kind not in UNTIMED else None,
        child_run_id=None if wanted.child is None else str(wanted.child.run_id),
        wait_until=_iso(row.wait_until),
    )
    work.emit(run, told)
    if row.wait_kind != WaitKind.ITEMS:
        # Of a map the items are under way.
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
