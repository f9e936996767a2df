"""Giving places: under the lock of a limit, the runs that live are counted and the next ones are let go.

Nothing is counted but rows, so no place can leak: a run that has ended, however it did, holds none.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflow_engine.definitions.limits import Limit
from workflow_engine.models import NOT_AN_ITEM, LimitStart, RunLimit, RunPlace, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK, lock_rows, read_clock
from workflow_engine.models.limits import RunPlaceQuerySet
from workflow_engine.statuses import FINISHED_RUN, OPEN_RUN, RunStatus, StageStatus, WaitKind

from .maps import recount
from .started import plan_group
from .suspending import LOOK_AGAIN
from .unit_of_work import UnitOfWork

# Places given in one transaction.
MOST_AT_ONCE = 100
# So many more are looked at, in case somebody holds those whose turn it is.
SPARE_IN_LINE = 100
# While somebody holds the runs whose turn it is, the limit is looked at again after this.
HELD_WAIT = timedelta(seconds=1)


@dataclass(slots=True)
class _Room:
    """How many may get a place now, and when the rate lets the next one begin (None: it does not hold up any)."""

    places: int
    next_at: datetime | None


def give_places(
    work: UnitOfWork, workflow_id: str, key: str, limit: str, told: Collection[uuid.UUID] | None = None
) -> int | None:
    """Give the free places of a limit to the runs that wait for them, the first in rank first; return how many.

    Nothing is waited for. None: somebody else holds the limit just now, and does the same.

    Args:
        told: runs that may have ended while they waited; None: all that wait are looked at.

    Raises:
        WorkflowNotFound: it is not registered here, so nobody knows how many there are.
    """
    using = work.ports.using
    rule = work.ports.registry.get_workflow(workflow_id).concurrency or Limit(most=2**31 - 1)
    row = _lock(using, limit, workflow_id, key)
    if row is None:
        return None
    places = RunPlace.objects.using(using).of(limit)
    living = _leave_ended(places)
    # Once it is counted: so nobody has got a place before the end of whoever has left it.
    now = work.ports.clock.now() if work.ports.is_frozen else read_clock(using)
    _give_up_ended(work, places, told)
    room = _room(using, rule, limit, living, now)
    given = _give(work, places, room, now)
    if given and rule.rate is not None:
        LimitStart.objects.using(using).bulk_create([LimitStart(limit_id=limit, at=now) for _ in range(given)])
    _note(work, row, rule, places, room, now, given=given)
    return given


def _lock(using: str, limit: str, workflow_id: str, key: str) -> RunLimit | None:
    """Lock a limit's row; None: somebody holds it."""
    rows = RunLimit.objects.using(using).filter(pk=limit)
    row = lock_rows(rows, skip_locked=True).first()
    if row is None and not rows.exists():
        rows.bulk_create([RunLimit(id=limit, workflow=workflow_id, key=key)], ignore_conflicts=True)
        row = lock_rows(rows, skip_locked=True).first()
    return row


def _leave_ended(places: RunPlaceQuerySet) -> int:
    """Free the places of runs that have ended; return how many are held by runs that live."""
    held = dict(places.held().values_list("run_id", "run__status"))
    ended = [run_id for run_id, status in held.items() if status in FINISHED_RUN]
    if ended:
        # Who reruns one just now holds its place's row, perhaps for long; an ended run does not count anyway.
        rows = lock_rows(places.held().filter(pk__in=ended).order_by("pk"), skip_locked=True)
        places.leave(list(rows.values_list("pk", flat=True)))
    return len(held) - len(ended)


def _give_up_ended(work: UnitOfWork, places: RunPlaceQuerySet, told: Collection[uuid.UUID] | None) -> None:
    """Let runs go from the line that have ended before they got a place."""
    waiting = places.waiting().filter(run__status__in=FINISHED_RUN)
    if told is not None:
        waiting = waiting.filter(pk__in=told)
    ids = list(waiting.values_list("run_id", flat=True)[:MOST_AT_ONCE]) if told is None or told else []
    if ids:
        runs = WorkflowRun.objects.using(work.ports.using).filter(pk__in=ids).order_by("pk")
        places.give_up([run.pk for run in work.lock_runs(runs) if run.status in FINISHED_RUN])


def _room(using: str, rule: Limit, limit: str, living: int, now: datetime) -> _Room:
    most = MOST_AT_ONCE if rule.most is None else min(MOST_AT_ONCE, rule.most - living)
    if rule.rate is None:
        return _Room(most, None)
    starts = LimitStart.objects.using(using).filter(limit=limit)
    starts.filter(at__lte=now - rule.rate.per).delete()
    begun = list(starts.order_by("-at").values_list("at", flat=True)[: rule.rate.most])
    left = rule.rate.most - len(begun)
    # With what is given now: the earliest of the last so many leaves the span.
    next_at = (begun[-1] if begun else now) + rule.rate.per if left <= most else None
    return _Room(min(most, left), next_at)


def _give(work: UnitOfWork, places: RunPlaceQuerySet, room: _Room, now: datetime) -> int:
    """Give places to the first runs of the line that nobody holds; who is left out since somebody does is noted."""
    if room.places <= 0:
        return 0
    wanted = places.wanted(now)
    line = list(wanted.values_list("run_id", flat=True)[: room.places + SPARE_IN_LINE])
    chosen: list[WorkflowRun] = []
    skipped: list[uuid.UUID] = []
    tried = 0
    while len(chosen) < room.places and tried < len(line):
        ids = line[tried : tried + room.places - len(chosen)]
        tried += len(ids)
        runs = WorkflowRun.objects.using(work.ports.using).filter(pk__in=ids).order_by("pk").select_related("data")
        # Not waiting: whoever holds a run may be about to end it, or may want this limit.
        locked = work.lock_runs(runs)
        skipped += set(ids) - {run.pk for run in locked}
        chosen += [run for run in locked if run.status in OPEN_RUN and run.paused_at is None]
        places.give_up([run.pk for run in locked if run.status in FINISHED_RUN])
    for run in chosen:
        if run.status == RunStatus.RUNNING:
            _let_go_on(work, run)
        for item in plan_group(run, 1) if run.status == RunStatus.PENDING else ():
            work.ring_queue(item["queue"])
    places.let_go([run.pk for run in chosen if run.status == RunStatus.PENDING])
    places.give([run.pk for run in chosen], now)
    if skipped and len(chosen) < room.places:
        # There is room, and somebody holds those whose turn it is; once is enough for all of them.
        work.want_place(skipped[0], due_at=now + HELD_WAIT)
    return len(chosen)


def _let_go_on(work: UnitOfWork, run: WorkflowRun) -> None:
    """Let a run go on that runs again: its time counts from here."""
    stages, now = StageRun.objects.using(work.ports.using), work.now
    rows = stages.current().filter(run=run, status=StageStatus.PENDING, due_at=HELD_BACK, map_index=NOT_AN_ITEM)
    waiting = list(rows.defer("config", "output"))
    stages.let_go([row.pk for row in waiting], due_at=now, rank_at=run.rank_at)
    for row in waiting:
        work.ring(row)
    maps = stages.current().suspended().filter(run=run, wait_kind=WaitKind.ITEMS, wake_at=HELD_BACK)
    for row in list(maps.defer("config", "output")):
        stages.filter(pk=row.pk).look_later(now + LOOK_AGAIN)
        recount(work, run, row)
    if (timeout := run.plan.get("timeout")) is not None:
        run.set_deadline(now + timedelta(seconds=timeout))


def _note(
    work: UnitOfWork, row: RunLimit, rule: Limit, places: RunPlaceQuerySet, room: _Room, now: datetime, *, given: int
) -> None:
    """Keep what the limit is, and see to it that it is looked at again when the rate allows, or at once if more may."""
    rate, per = (rule.rate.most, rule.rate.per) if rule.rate else (None, None)
    next_at, full = row.next_at, given == MOST_AT_ONCE
    is_told = next_at is not None and room.next_at is not None and now < next_at <= room.next_at
    look_at = now if full else None if is_told else room.next_at
    if look_at is not None:
        # Of those who are not due by then, or are paused, others leave a notice.
        for run_id in places.wanted(look_at).values_list("run_id", flat=True)[:1]:
            work.want_place(run_id, due_at=look_at)
            next_at = next_at if full else look_at
    if given or (row.most, row.rate, row.per, row.next_at) != (rule.most, rate, per, next_at):
        # Also if nothing changes: who has counted by an older view of the tables must not give anything.
        rows = RunLimit.objects.using(work.ports.using).filter(pk=row.pk)
        rows.update(most=rule.most, rate=rate, per=per, next_at=next_at)
