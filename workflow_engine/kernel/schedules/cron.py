"""Cron expressions in a time zone: which times they mean, across the nights on which clocks change.

The rules are those of Debian's cron, as ``cronsim`` has them. An expression with a fixed hour and minute follows the
clock on the wall: what falls into the hour that is left out comes right after it, once, and what falls into the hour
that comes twice comes in the first. One whose minute or hour begins with ``*`` follows the time that passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from workflow_engine.errors import ExtraMissing, FieldError, InvalidInput, shown

if TYPE_CHECKING:
    from cronsim import CronSim

FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, L or LW"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT"),
)
LONGEST = 200
HOW = "five fields are right: minute, hour, day of the month, month, day of the week; such as '30 2 * * MON-FRI'"
# How far back one looks first for times that have come; then six times as far, and so on.
FIRST_WINDOW, WIDER = timedelta(hours=1), 6


@dataclass(frozen=True, slots=True)
class FireTime:
    """A time of a schedule. ``local`` is it in the schedule's zone, as it is to be shown, with ``offset`` to UTC.

    ``notes``: ``moved`` (the time that the expression says does not exist on this day), ``first_of_two`` and
    ``second_of_two`` (the clock shows this time twice on this day), ``clocks_changed`` (since the time before).
    """

    at: datetime
    local: datetime
    offset: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calendar:
    """The times that an expression means in a zone. Made by ``calendar_of``."""

    cron: str
    zone: tzinfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the times after ``moment`` in UTC, ever later ones; it ends if there are none for 50 years."""
        last = moment.astimezone(UTC)
        for found in _simulate(self.cron, last.astimezone(self.zone)):
            at = found.astimezone(UTC)
            # Within the hour that comes twice it begins with the first of the two, which may be over.
            if at > last:
                last = at
                yield at

    def next_after(self, moment: datetime) -> datetime | None:
        return next(self.after(moment), None)

    def come(self, first: datetime, now: datetime, most: int) -> tuple[list[datetime], bool]:
        """Return the latest times from ``first`` up to ``now``, at most ``most``, and whether there are earlier ones.

        However long ago ``first`` was, few more are computed than are returned.
        """
        window = FIRST_WINDOW
        while True:
            start = max(first, now - window)
            found = []
            for at in self.after(start - timedelta(seconds=1)):
                if at > now:
                    break
                found.append(at)
            if start == first or len(found) >= most:
                return found[-most:], len(found) > most or start > first
            window *= WIDER

    def preview(self, moment: datetime, count: int) -> list[FireTime]:
        """Return the next ``count`` times after ``moment``."""
        shown, before = [], moment.astimezone(self.zone)
        for at in islice(self.after(moment), count):
            local = at.astimezone(self.zone)
            shown.append(FireTime(at, local, offset_of(local), self._notes(local, before)))
            before = local
        return shown

    def _notes(self, local: datetime, before: datetime) -> tuple[str, ...]:
        notes = []
        plan = _simulate(self.cron, local)
        if local.hour not in plan.hours or local.minute not in plan.minutes:
            notes.append("moved")
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            notes.append("second_of_two" if local.fold else "first_of_two")
        if local.utcoffset() != before.utcoffset():
            notes.append("clocks_changed")
        return tuple(notes)


def offset_of(local: datetime) -> str:
    """Return the offset to UTC as ``+02:00``."""
    text = local.strftime("%z")
    return f"{text[:3]}:{text[3:5]}"


@lru_cache(maxsize=1000)
def calendar_of(cron: str, timezone: str) -> Calendar:
    """Return the calendar of an expression in a zone.

    Raises:
        InvalidInput: with what is wrong with ``cron`` and ``timezone``.
        ExtraMissing: ``cronsim`` is not installed.
    """
    problems = []
    zone = _zone(timezone)
    if zone is None:
        right = "a name of the IANA database is right, such as 'Europe/Berlin' or 'UTC'"
        problems.append(FieldError("timezone", f"{shown(timezone, 80)} is no time zone; {right}"))
    if problem := _problem_with(cron):
        problems.append(FieldError("cron", problem))
    if zone is None or problems:
        raise InvalidInput("a schedule", problems)
    return Calendar(" ".join(cron.split()), zone)


def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC
    return ZoneInfo(name) if isinstance(name, str) and name in _zones() else None


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # That one means something else on every machine.
    return frozenset(available_timezones() - {"localtime"})


def _problem_with(cron: str) -> str | None:
    """Return what is wrong with an expression and what would be right; None if nothing is."""
    from_here = datetime(2000, 1, 1, tzinfo=UTC)
    if isinstance(cron, str) and len(cron) > LONGEST:
        return f"must have at most {LONGEST} characters, got {len(cron):,}"
    parts = cron.split() if isinstance(cron, str) else []
    if len(parts) != len(FIELDS):
        return f"{shown(cron)} has {len(parts)} fields; {HOW}"
    for place, (part, (name, right)) in enumerate(zip(parts, FIELDS, strict=True)):
        alone = ["*"] * len(FIELDS)
        alone[place] = part
        if not _can_be(" ".join(alone), from_here):
            return f"the {name} {shown(part, 80)} is not one; {right} is right, with '*', ',', '-' and '/'"
    if not _can_be(cron, from_here):
        return f"{shown(cron)} never comes: there is no such day in these months"
    return None


def _can_be(cron: str, moment: datetime) -> bool:
    try:
        return next(_simulate(cron, moment), None) is not None
    except (_cron_error(), AssertionError, ValueError):
        return False


def _simulate(cron: str, moment: datetime) -> CronSim:
    simulation: CronSim = _cronsim().CronSim(cron, moment)
    return simulation


def _cron_error() -> type[Exception]:
    error: type[Exception] = _cronsim().CronSimError
    return error


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ExtraMissing("cron expressions", "cronsim", "schedule") from error
    return cronsim
