"""What is to be done about a schedule at a moment, decided from what was read of it; nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.statuses import CatchUp, Overlap

from .cron import calendar_of

# With "none", what is late by more than this counts as missed.
GRACE = timedelta(minutes=5)
# With "all", the latest so many are made up for; and with "queue" so many wait at most.
MOST_CAUGHT_UP = MOST_WAITING = 100
# Runs that are started in one transaction.
MOST_AT_ONCE = 10
# Those that count as under way are asked after by so many.
MOST_SETTLED = 1000
# A run that is waited for is asked after when so much of its age has gone by again, within these bounds.
SHARE_OF_AGE, SHORTEST_WAIT, LONGEST_WAIT = 0.1, timedelta(seconds=1), timedelta(seconds=30)

MISSED = "missed: nobody was there to start it"
STILL_GOES_ON = "the run before it had not ended"
BACKLOG = f"{MOST_WAITING} were waiting already"


@dataclass(frozen=True, slots=True)
class Turn:
    """``starts``: times to start a run for, with the id of the row that waits, if there is one."""

    starts: tuple[tuple[datetime, int | None], ...] = ()
    waits: tuple[datetime, ...] = ()
    skipped: tuple[datetime, str] | None = None
    next_due_at: datetime | None = None
    look_at: datetime | None = None
    # Rows that need not be asked after again.
    settled: tuple[int, ...] = ()


@dataclass(slots=True)
class _Standing:
    """What was read of a schedule: since when a run of it goes on, if one does, and what waits."""

    busy_since: datetime | None = None
    waiting: list[ScheduleFire] = field(default_factory=list)
    settled: tuple[int, ...] = ()


def decide(ports: Ports, schedule: Schedule, now: datetime) -> Turn:
    """Raises ``InvalidInput`` for an expression or a zone that is none (any more), and ``ExtraMissing``."""
    calendar = calendar_of(schedule.cron, schedule.timezone)
    first = schedule.next_due_at
    come: list[datetime] = []
    skipped, next_due_at = None, first
    if first is not None and first <= now:
        latest, more = calendar.come(first, now, MOST_CAUGHT_UP)
        come = _kept(CatchUp(schedule.catch_up), latest, now)
        missed = latest[: len(latest) - len(come)]
        if more or missed:
            skipped = (missed[-1] if missed else first, MISSED)
        next_due_at = calendar.next_after(now)
        # The database's clock may have gone back since.
        come = _not_had(ports, schedule, come)
    if schedule.overlap == Overlap.ALLOW:
        # What is more than fits stays due.
        left = come[MOST_AT_ONCE:]
        next_due_at = left[0] if left else next_due_at
        starts = tuple((at, None) for at in come[:MOST_AT_ONCE])
        return Turn(starts=starts, skipped=skipped, next_due_at=next_due_at, look_at=next_due_at)
    standing = _standing(ports, schedule)
    if schedule.overlap == Overlap.SKIP:
        return _skipping(come, standing, skipped, next_due_at)
    return _queueing(come, standing, skipped, next_due_at, now)


def _kept(catch_up: CatchUp, come: list[datetime], now: datetime) -> list[datetime]:
    """Return the times of those that have come for which there is to be a run."""
    if catch_up == CatchUp.ALL:
        return come
    return [at for at in come[-1:] if catch_up == CatchUp.ONE or now - at <= GRACE]


def _not_had(ports: Ports, schedule: Schedule, come: list[datetime]) -> list[datetime]:
    """Leave out times that have had their row."""
    rows = ScheduleFire.objects.using(ports.using).filter(schedule=schedule.pk, due_at__in=come)
    had = set(rows.values_list("due_at", flat=True)) if come else set()
    return [at for at in come if at not in had]


def _standing(ports: Ports, schedule: Schedule) -> _Standing:
    rows = ScheduleFire.objects.using(ports.using)
    going_on = rows.under_way(schedule.pk).select_related("run").order_by("-due_at").first()
    return _Standing(
        # Whoever waits for it asks the oftener the younger it is.
        busy_since=going_on.run.created_at if going_on is not None and going_on.run is not None else None,
        waiting=list(rows.waiting(schedule.pk)[: MOST_WAITING + 1]),
        settled=tuple(rows.over(schedule.pk).values_list("pk", flat=True)[:MOST_SETTLED]),
    )


def _skipping(
    come: Sequence[datetime],
    standing: _Standing,
    skipped: tuple[datetime, str] | None,
    next_due_at: datetime | None,
) -> Turn:
    """Start the latest of those that have come, unless a run goes on."""
    starts = tuple((at, None) for at in come[-1:]) if standing.busy_since is None else ()
    passed = come[: len(come) - len(starts)]
    if passed:
        skipped = (passed[-1], STILL_GOES_ON)
    return Turn(starts, (), skipped, next_due_at, next_due_at, standing.settled)


def _queueing(
    come: Sequence[datetime],
    standing: _Standing,
    skipped: tuple[datetime, str] | None,
    next_due_at: datetime | None,
    now: datetime,
) -> Turn:
    """Start the first of those that wait, or have come, unless a run goes on; the others wait."""
    times: list[tuple[datetime, int | None]] = [(row.due_at, row.pk) for row in standing.waiting]
    times += [(at, None) for at in come]
    starts = tuple(times[:1]) if standing.busy_since is None else ()
    left = times[len(starts) :]
    if len(left) > MOST_WAITING and any(pk is None for _, pk in left[MOST_WAITING:]):
        skipped = (left[-1][0], BACKLOG)
    waits = tuple(at for at, pk in left[:MOST_WAITING] if pk is None)
    look_at = next_due_at
    if left:
        since = standing.busy_since or now
        wait = min(max((now - since) * SHARE_OF_AGE, SHORTEST_WAIT), LONGEST_WAIT)
        look_at = now + wait if next_due_at is None else min(next_due_at, now + wait)
    return Turn(starts, waits, skipped, next_due_at, look_at, standing.settled)
