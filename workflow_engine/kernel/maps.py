"""Maps: a stage's items are opened a few at a time, and the stage ends with the last of them.

What a map does next is decided by its counts (``StageMap``), which change under the run's lock in the transaction that
ends an item: nobody counts rows on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import Count, Min

from workflow_engine.definitions.items import enough
from workflow_engine.definitions.results import Expanded
from workflow_engine.models import NOT_AN_ITEM, StageMap, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK, rank
from workflow_engine.models.batch import Batch
from workflow_engine.models.maps import items_envelope
from workflow_engine.statuses import RunStatus, StageStatus

from .ending import cancel_items
from .events import StageCompleted, StageFailed, StageStarted
from .new_stages import NewStage
from .places import Places
from .started import InputReference, StartedStage, item_input, map_of, stage_event, started_from
from .unit_of_work import UnitOfWork

# Items stand this much behind other work that fell due at the same time: a wide map must not hold up other runs.
ITEM_HANDICAP = timedelta(seconds=5)
INSERTED_AT_ONCE = 1_000
TOO_FEW = "TOO_FEW_SUCCEEDED"


def item_rank(now: datetime, priority: int) -> datetime:
    """Return the place in the queue of an item that is opened now."""
    # No rank is after the due time: the index is read up to now.
    ranked: datetime = rank(now, priority) + ITEM_HANDICAP
    return min(now, ranked)


def open_map(
    work: UnitOfWork, run: WorkflowRun, row: StageRun, result: Expanded, places: Places | None
) -> list[StartedStage]:
    """Write one row per item, all at once; those for which there is a place start here, a few more may be taken."""
    spec, total = map_of(run.plan, row.group_number, row.stage) or {}, len(result.items)
    counts = StageMap(
        stage_run_id=row.pk,
        run_id=run.pk,
        stage=row.stage,
        generation=row.generation,
        on_item_error=spec.get("on_item_error", "fail"),
        max_parallel=spec.get("max_parallel") or work.ports.limits.max_parallel,
        needed=enough(spec.get("min_success"), total),
        total=total,
    )
    rows = (_new_item(run, row, index, item) for index, item in enumerate(result.items))
    return begin_items(work, run, counts, rows, places)


def begin_items(
    work: UnitOfWork,
    run: WorkflowRun,
    counts: StageMap,
    rows: Iterable[NewStage],
    places: Places | None,
    *,
    window: int | None = None,
) -> list[StartedStage]:
    """Insert the items that are to be run, with the map's counts, and open as many as may be under way (``window``)."""
    window, opened, next_index = counts.room if window is None else window, 0, counts.total
    starting: list[NewStage] = []
    left = iter(rows)
    # All of them in this transaction, and not all of them in memory.
    while chunk := list(islice(left, INSERTED_AT_ONCE)):
        for row in chunk:
            if opened == window:
                next_index = min(next_index, row.map_index)
                continue
            opened += 1
            if _begin(work, run, row, places):
                starting.append(row)
        batch = Batch()
        batch.insert(StageRun, (row.columns() for row in chunk))
        batch.write(work.ports.using)
    counts.opened += opened
    counts.next_index = next_index
    work.insert(StageMap, [_columns(counts)])
    if not opened:
        return _end_if_over(work, run, counts, places)
    return [started_from(row, run, item_input(row.item)) for row in starting]


def _begin(work: UnitOfWork, run: WorkflowRun, row: NewStage, places: Places | None) -> bool:
    """Open an item that is about to be inserted; whether it starts here."""
    row.due_at, row.rank_at = work.now, item_rank(work.now, row.priority)
    if places is None or run.paused_at is not None or not places.take(run, row.stage, row.queue, item=True):
        work.ring(row)
        return False
    row.start(worker=places.starter.worker_id, at=work.now, alone=places.starter.alone)
    work.emit(run, StageStarted(**stage_event(row)))
    return True


def _new_item(run: WorkflowRun, row: StageRun, index: int, item: dict[str, Any] | None) -> NewStage:
    return NewStage(
        run_id=run.pk,
        stage=row.stage,
        group_number=row.group_number,
        stage_number=row.stage_number,
        generation=row.generation,
        queue=row.queue,
        priority=row.priority,
        due_at=HELD_BACK,
        rank_at=HELD_BACK,
        # The run has it; thousands of copies would only take room.
        config={},
        map_index=index,
        item=item,
    )


def item_again(run: WorkflowRun, row: StageRun, generation: int) -> NewStage:
    """Return a new row for an item that is to be run again in a new generation."""
    again = _new_item(run, row, row.map_index, row.item)
    again.generation, again.priority = generation, run.priority
    return again


def _columns(counts: StageMap) -> dict[str, Any]:
    return {field.attname: getattr(counts, field.attname) for field in StageMap._meta.concrete_fields}


def items_ended(
    work: UnitOfWork,
    run: WorkflowRun,
    stage_id: str,
    generation: int,
    *,
    done: int = 0,
    failed: int = 0,
    places: Places | None = None,
) -> list[StartedStage]:
    """Count items of a run whose lock is held that have just ended; open others, or end the stage with the last.

    Returns what starts here: further items, or the stages that follow.
    """
    if run.status != RunStatus.RUNNING or work.is_ending(run):
        return []
    counts = read_counts(work, run, stage_id, generation)
    if counts is None:
        return []
    before = _tally(counts)
    counts.done += done
    counts.failed += failed
    if counts.is_failing and not counts.is_over:
        stop_items(work, run, counts)
    started = [] if counts.is_over else _open_more(work, run, counts, places)
    counts.count_from(before)
    return started + _end_if_over(work, run, counts, places)


def item_waits(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> None:
    """An item was put back, or waits: if its map is failing meanwhile it does not start again."""
    if row.map_index == NOT_AN_ITEM or run.status != RunStatus.RUNNING or work.is_ending(run):
        return
    counts = read_counts(work, run, row.stage, row.generation)
    if counts is None or not counts.is_failing:
        return
    before = _tally(counts)
    stop_items(work, run, counts)
    counts.count_from(before)
    _end_if_over(work, run, counts, None)


def read_counts(work: UnitOfWork, run: WorkflowRun, stage_id: str, generation: int) -> StageMap | None:
    """Return the counts of a map, read under the run's lock."""
    rows = StageMap.objects.using(work.ports.using)
    return rows.filter(run=run.pk, stage=stage_id, generation=generation).first()


def _tally(counts: StageMap) -> dict[str, int]:
    return {name: getattr(counts, name) for name in StageMap.COUNTED}


def stop_items(work: UnitOfWork, run: WorkflowRun, counts: StageMap) -> None:
    """Cancel the items that do not run just now; those that run come to their end."""
    counts.cancelled += cancel_items(work, run, counts.stage, counts.generation)
    counts.opened, counts.next_index = counts.total, counts.total


def _open_more(work: UnitOfWork, run: WorkflowRun, counts: StageMap, places: Places | None) -> list[StartedStage]:
    """Open items in the places of those that have ended: they start here, or wait for a worker."""
    room = counts.room
    if not room:
        return []
    stages = StageRun.objects.using(work.ports.using)
    rows = stages.held_back(run.pk, counts.stage, counts.generation, counts.next_index, room)
    counts.opened += len(rows)
    counts.next_index = rows[-1].map_index + 1 if len(rows) == room else counts.total
    taken = []
    if places is not None and run.paused_at is None:
        taken = [row for row in rows if places.take(run, row.stage, row.queue, item=True)]
    times = {"due_at": work.now, "rank_at": item_rank(work.now, run.priority)}
    begun: list[StageRun] = []
    if taken and places is not None:
        starter = places.starter
        begun = stages.start_all(taken, worker=starter.worker_id, at=work.now, alone=starter.alone, **times)
    waiting = [row for row in rows if row not in begun]
    stages.let_go([row.pk for row in waiting], **times)
    for row in waiting:
        work.ring(row)
    for row in begun:
        work.emit(run, StageStarted(**stage_event(row)))
    return [started_from(row, run, item_input(row.item)) for row in begun]


def _end_if_over(work: UnitOfWork, run: WorkflowRun, counts: StageMap, places: Places | None) -> list[StartedStage]:
    from .advance import settle

    if not counts.is_over:
        return []
    row = StageRun.objects.using(work.ports.using).filter(pk=counts.stage_run_id).defer("config").first()
    if row is None or row.status != StageStatus.SUSPENDED:
        return []
    facts, lasted = stage_event(row), work.now - (row.started_at or work.now)
    error = _failure(work, counts)
    if error is not None:
        if row.fail_suspended(at=work.now, error=error):
            work.emit(run, StageFailed(**facts, error=error))
            settle(work, run, row.group_number, unfinished=[row])
        return []
    output = items_envelope(counts)
    if not row.complete_suspended(at=work.now, output=output, metrics={}):
        return []
    work.emit(run, StageCompleted(**facts, duration_ms=round(lasted.total_seconds() * 1000)))
    reference = InputReference({row.stage: output})
    return settle(work, run, row.group_number, places, unfinished=(), missing=(), input=reference)[1]


def _failure(work: UnitOfWork, counts: StageMap) -> dict[str, Any] | None:
    """Return why the stage has failed, with the real error of the first item that did; None: it has not."""
    enough_done = counts.done >= counts.needed
    if enough_done and not counts.is_failing:
        return None
    rows = StageRun.objects.using(work.ports.using).filter(
        run=counts.run_id, stage=counts.stage, generation=counts.generation, status=StageStatus.FAILED
    )
    first = rows.filter(map_index__gt=NOT_AN_ITEM).order_by("map_index").values("map_index", "error").first()
    error = dict((first and first["error"]) or {"code": "STAGE_FAILED", "class": "", "message": ""})
    if first is not None:
        error |= {
            "item": first["map_index"],
            "message": f"item {first['map_index']}: {error.get('message', '')}"[:2000],
        }
    if counts.is_failing:
        return error
    text = f"{counts.done:,} of {counts.total:,} items succeeded, {counts.needed:,} were needed."
    if first is not None:
        text += f" The first that failed: {error.get('class') or error.get('code')}: {error['message']}"
    return {**error, "code": TOO_FEW, "class": "", "message": text[:2000]}


def recount(work: UnitOfWork, run: WorkflowRun, row: StageRun) -> bool:
    """Compare the counts of a map with its rows, and go on from what those say; False: they agree.

    Only what was changed by hand, or by a defect, makes them differ.
    """
    counts = read_counts(work, run, row.stage, row.generation)
    if counts is None:
        return False
    before = _tally(counts)
    items = StageRun.objects.using(work.ports.using).filter(
        run=run, stage=row.stage, generation=row.generation, map_index__gt=NOT_AN_ITEM
    )
    by_status = dict(items.order_by().values_list("status").annotate(number=Count("pk")))
    held = items.filter(status=StageStatus.PENDING, due_at=HELD_BACK)
    waiting, first = held.aggregate(number=Count("pk"), first=Min("map_index")).values()
    # Items that an earlier generation has done have no row in this one.
    kept = counts.total - sum(by_status.values())
    counts.done = kept + by_status.get(StageStatus.COMPLETED, 0)
    counts.failed = by_status.get(StageStatus.FAILED, 0)
    counts.cancelled = by_status.get(StageStatus.CANCELLED, 0)
    counts.opened = counts.total - waiting
    counts.next_index = counts.total if first is None else first
    if before == _tally(counts) and not counts.is_over and not counts.room:
        return False
    if not counts.is_over:
        _open_more(work, run, counts, None)
    counts.count_from(before)
    _end_if_over(work, run, counts, None)
    return True
