"""Statuses, generations, times and order of a run's stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from workflow_engine.kernel.doctor.findings import Finding, violation
from workflow_engine.kernel.doctor.reading import Record, StageRow
from workflow_engine.models.base import HELD_BACK
from workflow_engine.statuses import DONE_STAGE, FINISHED_STAGE, OPEN_STAGE, RunStatus, StageStatus, WaitKind

TOLERANCE = timedelta(seconds=1)


def statuses(record: Record) -> Iterator[Finding]:
    """Statuses that exist, with what belongs to them, and that their run's status allows."""
    for row in record.stages:
        if row.status not in StageStatus.values:
            text = f"{row.place} has the status {row.status!r}, which does not exist."
            yield violation("status.unknown", record, row.stage, text=text)
            continue
        if row.status == StageStatus.RUNNING and (row.worker is None or row.token == 0):
            text = f"{row.place} is RUNNING without a worker or a token."
            yield violation("status.impossible", record, row.stage, text=text)
        if record.run.status == RunStatus.PENDING and row.status != StageStatus.PENDING:
            text = f"{row.place} is {row.status}, and its run has not begun."
            yield violation("status.impossible", record, row.stage, text=text)
        if record.has_ended and row.status in OPEN_STAGE:
            text = f"{row.place} is {row.status}, and its run is {record.run.status}. Nothing will start or end it."
            yield violation("stage.open_in_ended_run", record, row.stage, text=text)
        has_ended = row.status in FINISHED_STAGE
        if has_ended != (row.finished_at is not None):
            text = f"{row.place} is {row.status} and {'has no' if has_ended else 'has a'} time of its end."
            yield violation("time.missing", record, row.stage, text=text)


def holders(record: Record) -> Iterator[Finding]:
    """Only what runs, or is being checked, has a worker; and what waits knows until when."""
    for row in record.stages:
        if row.worker is not None and row.status not in (StageStatus.RUNNING, StageStatus.SUSPENDED):
            text = f"{row.place} is {row.status}, and worker {row.worker} holds it."
            yield violation("stage.held", record, row.stage, text=text)
        is_timed = row.wait_kind != WaitKind.ANSWER or row.wait_until is not None
        if row.status == StageStatus.SUSPENDED and row.wake_at is None and is_timed:
            text = f"{row.place} waits ({row.wait_kind}), and no time is set at which somebody looks after it."
            yield violation("wait.without_time", record, row.stage, text=text)


def outputs(record: Record) -> Iterator[Finding]:
    for row in record.stages:
        if row.output.present != (row.status == StageStatus.COMPLETED):
            text = f"{row.place} is {row.status} and has {'an' if row.output.present else 'no'} output."
            yield violation("stage.output", record, row.stage, text=text)


def generations(record: Record) -> Iterator[Finding]:
    """Of every unit of work at most one row counts, the latest; those that do not will never do anything."""
    last = record.run.generation
    counting = {row.pk for row in record.counting(last)}
    for row in record.stages:
        if row.generation > last:
            text = f"{row.place} is of generation {row.generation}, and its run is only in generation {last}."
            yield violation("generation.ahead", record, row.stage, text=text)
        elif row.superseded_at is None and row.pk not in counting:
            text = f"{row.place} of generation {row.generation} still counts beside a later one."
            yield violation("generation.two_count", record, row.stage, text=text)
        elif row.superseded_at is not None and row.generation == last and row.status not in OPEN_STAGE:
            text = f"{row.place} is of the run's own generation, {last}, and counts no more."
            yield violation("generation.two_count", record, row.stage, text=text)
        if row.status in OPEN_STAGE and (row.superseded_at is not None or row.generation < last):
            text = f"{row.place} of generation {row.generation} is {row.status}, and a rerun has taken its place."
            yield violation("generation.open_but_old", record, row.stage, text=text)


def order(record: Record) -> Iterator[Finding]:
    """No stage starts before the whole group before it has ended."""
    for generation in {row.generation for row in record.stages}:
        counting = [row for row in record.counting(generation) if not row.is_item]
        groups: dict[int, list[StageRow]] = {}
        for row in counting:
            groups.setdefault(row.group_number, []).append(row)
        for row in record.stages:
            if row.generation != generation or row.started_at is None:
                continue
            before = groups.get(row.group_number - 1, ())
            open_ones = sorted(one.stage for one in before if one.status not in DONE_STAGE)
            late = [one for one in before if one.finished_at and row.started_at < one.finished_at - TOLERANCE]
            if open_ones or late:
                names = ", ".join(open_ones) or ", ".join(one.stage for one in late)
                text = f"{row.place} started before the group before it had ended: {names}."
                yield violation("stage.too_early", record, row.stage, text=text)


def maps(record: Record) -> Iterator[Finding]:
    """The counts of each map are those of its rows, and no more items are under way than may be."""
    owners = {row.pk: row for row in record.stages}
    for one in record.maps:
        counting = record.counting(one.generation)
        items = [row for row in counting if row.stage == one.stage and row.is_item]
        statuses = Counter(row.status for row in items)
        open_rows = [row for row in items if row.status in OPEN_STAGE]
        under_way = sum(row.due_at != HELD_BACK for row in open_rows)
        held = len(open_rows) - under_way
        counted = (one.under_way, one.total - one.opened, one.done, one.failed, one.cancelled)
        found = (under_way, held, *(statuses[name] for name in ("COMPLETED", "FAILED", "CANCELLED")))
        if counted != found:
            yield violation("map.miscounted", record, one.stage, text=_miscounted(counted, found))
        elif sorted(row.map_index for row in items) != list(range(one.total)):
            text = f"The map has {one.total} items, and the {len(items)} rows are not one of each."
            yield violation("map.miscounted", record, one.stage, text=text)
        if under_way > one.max_parallel:
            text = f"{under_way} items are under way at the same time; {one.max_parallel} may be."
            yield violation("map.too_many", record, one.stage, text=text)
        owner = owners.get(one.pk)
        if owner is not None and owner.status == StageStatus.SUSPENDED and not open_rows:
            yield violation("map.unheard", record, one.stage, text="The stage waits for items that have all ended.")
    yield from _left_items(record)


def _miscounted(counted: tuple[int, ...], found: tuple[int, ...]) -> str:
    words = ("under way", "not begun", "done", "failed", "cancelled")
    says = ", ".join(f"{number} {word}" for number, word in zip(counted, words, strict=True))
    return f"The map counts {says}; its rows are {', '.join(map(str, found))}."


def _left_items(record: Record) -> Iterator[Finding]:
    owners = (row for row in record.stages if not row.is_item and row.status == StageStatus.SUSPENDED)
    waiting = {(row.stage, row.generation) for row in owners}
    for row in record.stages:
        if row.is_item and row.status in OPEN_STAGE and (row.stage, row.generation) not in waiting:
            text = f"Item {row.map_index} is {row.status}, and its stage does not wait for its items."
            yield violation("map.item_left", record, row.stage, text=text)


RULES = (statuses, holders, outputs, generations, order, maps)
