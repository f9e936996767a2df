"""What stages wait for that stands in other rows: how far their items are, and the runs that they have started."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from workflow_engine.statuses import MemoKind, StageStatus, WaitKind

from .maps import StageMap
from .memos import StageMemo
from .runs import WorkflowRun
from .stage_runs import NOT_AN_ITEM, StageRun, StageRunQuerySet


def mapped_stages(run: WorkflowRun) -> list[str]:
    """Return the stages of the run's plan that run once per item."""
    return [item["id"] for group in run.plan["groups"] for item in group["stages"] if "map" in item]


def stage_rows(run: WorkflowRun) -> StageRunQuerySet:
    """Return the current rows of the run's stages in the plan's order, one per stage: none of an item is read."""
    stages = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
    rows = StageRun.objects.using(run._state.db).current().stages()
    return rows.filter(run=run.pk, stage__in=stages).in_order()


def item_rows(run: WorkflowRun, stage_id: str | None = None) -> StageRunQuerySet:
    """Return the current rows of items, of all mapped stages of the run or of one, in item order."""
    stages = mapped_stages(run) if stage_id is None else [stage_id]
    rows = StageRun.objects.using(run._state.db).current().filter(run=run.pk, map_index__gt=NOT_AN_ITEM)
    return rows.filter(stage__in=stages).in_order() if stages else rows.none()


def asking_items(run: WorkflowRun) -> StageRunQuerySet:
    """Return the items that wait for answers, in item order; no statement is made if the run maps nothing."""
    return item_rows(run).filter(status=StageStatus.SUSPENDED, wait_kind=WaitKind.ANSWER)


class Awaited:
    """Look-ups for some stage runs: three statements at most, none where nothing is to be looked up.

    ``mapped``: names of mapped stages whose counts are wanted too when they do not wait for their items (any more).
    """

    def __init__(self, rows: Sequence[StageRun], using: str, mapped: Collection[str] = ()) -> None:
        stages = [
            row.pk
            for row in rows
            if row.map_index == NOT_AN_ITEM and (_waits(row, WaitKind.ITEMS) or row.stage in mapped)
        ]
        self._counts = StageMap.objects.using(using).in_bulk(stages) if stages else {}
        waiting = {row.pk: row.wait_name for row in rows if _waits(row, WaitKind.CHILD)}
        self._children = _children(waiting, using) if waiting else {}

    def counts(self, row: StageRun) -> StageMap | None:
        """Return the counts of a mapped stage; None: it is no such, or its items are not known yet."""
        return self._counts.get(row.pk)

    def child(self, row: StageRun) -> WorkflowRun | None:
        """Return the run for which a suspended stage waits: id, workflow and status."""
        return self._children.get(row.pk)


def _waits(row: StageRun, kind: WaitKind) -> bool:
    return row.status == StageStatus.SUSPENDED and row.wait_kind == kind


def _children(waiting: dict[uuid.UUID, str], using: str) -> dict[uuid.UUID, WorkflowRun]:
    # Not by the parent of the child: after a rerun a stage may wait for one that its earlier row has started.
    memos = StageMemo.objects.using(using).filter(stage_run__in=list(waiting), kind=MemoKind.CHILD)
    wanted = {
        memo.stage_run_id: uuid.UUID(memo.get_value()["run_id"])
        for memo in memos
        if waiting[memo.stage_run_id] == memo.name
    }
    runs = WorkflowRun.objects.using(using).only("id", "workflow", "status").in_bulk(list(wanted.values()))
    return {stage_run: runs[child] for stage_run, child in wanted.items() if child in runs}
