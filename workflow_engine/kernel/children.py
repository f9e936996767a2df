"""Runs that start runs: what parent and child tell each other, by rows that the other side's transaction reads.

Two runs are never locked in one transaction. A child is written in the transaction in which the stage begins to wait
for it; its end, and the end of the stage that wanted it, are told by a ``RunNotice``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflow_engine.definitions.results import ChildRequest
from workflow_engine.models import OutboxEvent, RunData, RunNotice, StageMemo, StageRun, WorkflowRun
from workflow_engine.models.base import rank
from workflow_engine.models.payloads import inline
from workflow_engine.models.rows import Row
from workflow_engine.statuses import FINISHED_RUN, OPEN_RUN, MemoKind, NoticeKind, RunStatus, WaitKind

from .events import RunCreated
from .limiting import wait_for_place
from .suspending import memo_row
from .unit_of_work import UnitOfWork


def notice(
    work: UnitOfWork,
    run_id: uuid.UUID,
    kind: NoticeKind,
    *,
    sender: uuid.UUID,
    stage_run: Any = None,
    generation: int = 0,
) -> Row:
    """Return a notice to ``run_id`` by column; ``generation``: that of the run which it is about."""
    return {
        "run_id": run_id,
        "stage_run_id": stage_run,
        "sender": sender,
        "kind": kind,
        "generation": generation,
        "due_at": work.now,
        "tries": 0,
    }


def cancel_children(work: UnitOfWork, run: WorkflowRun, begun: Sequence[StageRun], ending: Any) -> None:
    """Tell the open runs that stages of a locked run have started to end.

    Args:
        begun: the stages that have had an attempt.
        ending: the query of all that end, which may know children that a rerun has handed on.
    """
    ids = {row.pk for row in begun}
    # Also one that this very transaction starts.
    found = {row["id"]: 0 for row in work.new_rows(WorkflowRun) if row.get("parent_stage_run_id") in ids}
    runs = WorkflowRun.objects.using(work.ports.using).filter(status__in=OPEN_RUN)
    if ids:
        found |= dict(runs.filter(parent_stage_run__in=ids).values_list("pk", "generation"))
    if run.generation:
        handed_on = [child for _, child in known_children(work, ending.values_list("pk", flat=True))]
        found |= dict(runs.filter(pk__in=handed_on).values_list("pk", "generation"))
    work.insert(
        RunNotice,
        (notice(work, pk, NoticeKind.CANCEL, sender=run.pk, generation=number) for pk, number in found.items()),
    )
    if found:
        work.ring_queue(run.plan["groups"][0]["stages"][0]["queue"])


def known_children(work: UnitOfWork, stage_runs: Iterable[uuid.UUID]) -> list[tuple[tuple[uuid.UUID, str], uuid.UUID]]:
    """Return the runs that stages know as their children, as ((stage run, name), run)."""
    memos = StageMemo.objects.using(work.ports.using).filter(stage_run__in=list(stage_runs), kind=MemoKind.CHILD)
    return [((memo.stage_run_id, memo.name), uuid.UUID(memo.get_value()["run_id"])) for memo in memos]


def waiting_for(work: UnitOfWork, run: WorkflowRun, notices: Sequence[RunNotice]) -> list[StageRun]:
    """Return the stages of a locked run that wait for just those children whose ends are told."""
    stages = StageRun.objects.using(work.ports.using)
    waiting = stages.suspended().filter(run=run, wait_kind=WaitKind.CHILD).only("id", "queue", "priority", "wait_name")
    ids = {one.stage_run_id for one in notices if one.stage_run_id is not None}
    if run.generation and stages.filter(pk__in=ids, superseded_at__isnull=False).exists():
        # Of a child that a rerun has handed on another stage run waits now.
        rows = list(waiting)
    else:
        rows = list(waiting.filter(pk__in=ids))
    known = dict(known_children(work, [row.pk for row in rows])) if rows else {}
    # A child that is gone cannot tell: that is told in its place, by the stage itself.
    senders = {one.sender for one in notices}
    return [row for row in rows if known.get((row.pk, row.wait_name)) in senders or row.pk in senders]


def start_child(work: UnitOfWork, run: WorkflowRun, row: StageRun, request: ChildRequest) -> None:
    """Write the run for which a stage of a locked run begins to wait, and that the stage knows it by this name."""
    parents = WorkflowRun.objects.using(work.ports.using).filter(pk=run.pk)
    root_id, depth = parents.values_list("root_run", "depth").get()
    now, plan = work.now, request.plan
    child: dict[str, Any] = {
        "id": request.run_id,
        "workflow": request.workflow_id,
        "version": plan["version"],
        "status": RunStatus.PENDING,
        "priority": request.priority,
        "generation": 0,
        "event_seq": 1,
        "created_at": now,
        "due_at": now,
        "rank_at": rank(now, request.priority),
        "subject_type_id": None,
        "subject_id": "",
        "parent_run_id": run.pk,
        "parent_stage_run_id": row.pk,
        "root_run_id": root_id or run.pk,
        "depth": depth + 1,
        "total_cost": 0.0,
        "total_tokens": 0,
    }
    data = {
        "run_id": request.run_id,
        "plan": plan,
        "config": request.config,
        "input": request.input,
        "metadata": request.metadata,
        "cancel_reason": "",
        "created_by": "",
    }
    if request.limit_key is not None and not _is_inside(work, run, request.workflow_id):
        child = wait_for_place(work, child, request.limit_key)
    work.insert(WorkflowRun, [child])
    work.insert(RunData, [data])
    event = RunCreated(workflow_id=request.workflow_id)
    work.insert(OutboxEvent, [work.event_row(request.run_id, request.workflow_id, 1, event, at=now)])
    value = inline({"run_id": str(request.run_id), "workflow_id": request.workflow_id, "request": request.digest})
    work.insert(StageMemo, [memo_row(work, row, MemoKind.CHILD, request.name, value=value)])
    for item in plan["groups"][0]["stages"]:
        work.ring_queue(item["queue"])


def _is_inside(work: UnitOfWork, run: WorkflowRun, workflow_id: str) -> bool:
    """Whether the run, or one above it, is of that workflow: a child that waited for its place would wait for ever."""
    runs = WorkflowRun.objects.using(work.ports.using)
    workflow, parent = run.workflow, run.parent_run_id
    while workflow != workflow_id:
        found = runs.filter(pk=parent).values_list("workflow", "parent_run_id").first() if parent else None
        if found is None:
            return False
        workflow, parent = found
    return True


def tell_if_ended(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> None:
    """A stage waits, again, for a run that it has started before: it may have ended since the stage looked."""
    child = child_of(work, row)
    if child is None or child[1] in FINISHED_RUN:
        sender = row.pk if child is None else child[0]
        work.insert(RunNotice, [notice(work, run.pk, NoticeKind.ENDED, sender=sender, stage_run=row.pk)])
        work.ring_queue(row.queue)


def child_of(work: UnitOfWork, row: StageRun) -> tuple[uuid.UUID, str] | None:
    """Return id and status of the run for which a stage waits; None: it is gone."""
    using = work.ports.using
    memos = StageMemo.objects.using(using).filter(stage_run=row.pk, kind=MemoKind.CHILD, name=row.wait_name)
    memo = memos.first()
    if memo is None:
        return None
    known: Mapping[str, Any] = memo.get_value()
    return WorkflowRun.objects.using(using).filter(pk=known["run_id"]).values_list("pk", "status").first()
