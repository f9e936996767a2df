"""A run that has ended goes on in a new generation: by a rerun, or because a child run has completed after all."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Q

from workflow_engine.errors import InvalidTransition
from workflow_engine.models import NOT_AN_ITEM, RunData, StageMap, StageMemo, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK
from workflow_engine.statuses import DONE_STAGE, MemoKind, RunStatus, StageStatus, WaitKind

from .advance import open_group
from .events import RunRerun
from .limiting import hold_back, want_place_again
from .maps import begin_items, item_again
from .reruns import RerunPlan, current_rows, make_plan, standing
from .suspending import LOOK_AGAIN
from .totals import sum_of
from .unit_of_work import UnitOfWork


def begin_again(
    work: UnitOfWork,
    run: WorkflowRun,
    plan: RerunPlan,
    rows: Sequence[StageRun],
    config: dict[str, dict[str, object]] | None = None,
    *,
    actor: str | None = None,
) -> tuple[str, ...]:
    """Supersede the rows of what runs again and let the locked run be RUNNING; return the stages that had rows.

    Args:
        config: what to store; None: it stays.
    """
    using, timeout = work.ports.using, run.plan.get("timeout")
    kept = [row for row in rows if _is_kept(plan, row) and row.status == StageStatus.COMPLETED]
    waits = want_place_again(work, run)
    cost, tokens = sum_of(row.metrics for row in kept)
    begun = run.begin_again(
        at=work.now,
        # Of one that waits for a place of its limit the time counts from there.
        deadline_at=None if timeout is None or waits else work.now + timedelta(seconds=timeout),
        cost=cost,
        tokens=tokens,
    )
    if not begun:
        raise InvalidTransition(f"Run {run.pk} is no longer {run.status}.")
    keeping = Q(stage=plan.stage_id, map_index__gt=NOT_AN_ITEM, status=StageStatus.COMPLETED)
    stages = StageRun.objects.using(using)
    (stages.exclude(keeping) if plan.only_failed_items else stages).supersede(run, plan.group, work.now)
    if config is not None:
        RunData.objects.using(using).filter(pk=run.pk).update(config=config, cancel_reason="")
        run.data.config, run.data.cancel_reason = config, ""
    superseded = tuple(dict.fromkeys(row.stage for row in rows if row.group_number >= plan.group))
    work.emit(
        run,
        RunRerun(
            workflow_id=run.workflow,
            stage_id=plan.stage_id,
            superseded=superseded,
            actor=actor,
            items=plan.items_again if plan.only_failed_items else None,
        ),
    )
    if plan.only_failed_items:
        _open_failed_items(work, run, plan, rows, held_back=waits)
    else:
        open_group(work, run, plan.group, None)
    if waits:
        hold_back(work, run)
    return superseded


def _is_kept(plan: RerunPlan, row: StageRun) -> bool:
    return row.group_number < plan.group or (
        plan.only_failed_items and row.stage == plan.stage_id and row.map_index != NOT_AN_ITEM
    )


def _open_failed_items(
    work: UnitOfWork, run: WorkflowRun, plan: RerunPlan, rows: Sequence[StageRun], *, held_back: bool
) -> None:
    """Write the mapped stage anew, with those of its items that have not succeeded; the others keep their rows."""
    stages = StageRun.objects.using(work.ports.using)
    old = next(row for row in rows if row.stage == plan.stage_id and row.map_index == NOT_AN_ITEM)
    counts = StageMap.objects.using(work.ports.using).get(pk=old.pk)
    again = stages.filter(run=run, stage=plan.stage_id, map_index__gt=NOT_AN_ITEM).exclude(status__in=DONE_STAGE)
    # Of several generations of an item only the last counted until now.
    counted = {row.pk for row in rows}
    fresh = [item_again(run, row, run.generation) for row in again.order_by("map_index") if row.pk in counted]
    whole = stages.defer("output").get(pk=old.pk)
    row = StageRun(
        run_id=run.pk,
        stage=whole.stage,
        group_number=whole.group_number,
        stage_number=whole.stage_number,
        generation=run.generation,
        queue=whole.queue,
        priority=run.priority,
        due_at=work.now,
        rank_at=work.now,
        config=dict(run.data.config_of(whole.stage)),
        # Its items are known: nothing of its own is to be run.
        status=StageStatus.SUSPENDED,
        token=1,
        attempt=1,
        started_at=work.now,
        suspended_at=work.now,
        wait_kind=WaitKind.ITEMS,
        wake_at=HELD_BACK if held_back else work.now + LOOK_AGAIN,
    )
    row.save(using=work.ports.using, force_insert=True)
    done = counts.total - len(fresh)
    new = StageMap(
        stage_run_id=row.pk,
        run_id=run.pk,
        stage=row.stage,
        generation=run.generation,
        on_item_error=counts.on_item_error,
        max_parallel=counts.max_parallel,
        needed=counts.needed,
        total=counts.total,
        done=done,
        opened=done,
    )
    begin_items(work, run, new, fresh, None, window=0 if held_back else None)


def go_on_after_child(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> None:
    """Let a locked run that has FAILED because of a child run go on from the stage (or item) that waited for it.

    Somebody has rerun the child, and it has completed: the stage runs again, and finds what the child has given.
    """
    rows = current_rows(work.ports, run)
    is_item = row.map_index != NOT_AN_ITEM
    plan = make_plan(run, row.stage, standing(run, rows), rows=rows, only_failed_items=is_item)
    begin_again(work, run, plan, rows)
    _hand_on(work, run, [one for one in rows if one.stage == row.stage and one.status not in DONE_STAGE])


def _hand_on(work: UnitOfWork, run: WorkflowRun, rows: Sequence[StageRun]) -> None:
    """Let the new rows of a stage, or of its items, know the runs that the old ones have started and that go well."""
    using = work.ports.using
    # The stage itself is about to be inserted, its items have been.
    fresh = {(row["stage"], row["map_index"]): row["id"] for row in work.new_rows(StageRun)}
    items = StageRun.objects.using(using).filter(
        run=run, generation=run.generation, stage__in={row.stage for row in rows}
    )
    fresh |= {(stage, index): pk for stage, index, pk in items.values_list("stage", "map_index", "pk")}
    old = {row.pk: fresh.get((row.stage, row.map_index)) for row in rows}
    memos = list(StageMemo.objects.using(using).filter(stage_run__in=list(old), kind=MemoKind.CHILD))
    children = {memo.pk: uuid.UUID(memo.get_value()["run_id"]) for memo in memos}
    well = WorkflowRun.objects.using(using).filter(pk__in=list(children.values()))
    going = set(well.exclude(status__in=(RunStatus.FAILED, RunStatus.CANCELLED)).values_list("pk", flat=True))
    kept = [memo for memo in memos if children[memo.pk] in going and old[memo.stage_run_id] is not None]
    work.insert(
        StageMemo,
        (
            {
                "run_id": run.pk,
                "stage_run_id": old[memo.stage_run_id],
                "kind": memo.kind,
                "name": memo.name,
                "value": memo.value,
                "due_at": None,
                "token": 0,
                "actor": memo.actor,
                "created_at": work.now,
            }
            for memo in kept
        ),
    )
