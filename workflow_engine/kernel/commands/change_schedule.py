"""``schedule.change``: fields of a schedule are others from here on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from workflow_engine.errors import DatabaseConflict, FieldError, InvalidInput, ScheduleNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.schedules.checking import CHANGEABLE, check_schedule
from workflow_engine.kernel.schedules.cron import calendar_of
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.statuses import Overlap

from .base import Command, handles
from .create_schedule import name_taken

MOST_PASSES = 5
NO_QUEUE = "the schedule was disabled, or does not queue any more"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeScheduleResult:
    # False: all fields were as asked for.
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSchedule(Command[ChangeScheduleResult]):
    """Change some fields of a schedule: those of ``CreateSchedule``, with ``workflow`` for its id.

    A new cron expression or time zone counts from now, and so does a schedule that is enabled again: for the time that
    it was disabled nothing is made up. What waits is dropped when it is disabled, or queues no more.

    Raises:
        ScheduleNotFound, InvalidInput: nothing was written.
    """

    type = "schedule.change"
    schedule_id: uuid.UUID
    changes: Mapping[str, Any]
    # Stands at the schedule until it is changed again.
    note: str = ""


class _Moved(Exception):
    """It was changed between the look at it and its lock."""


@handles(ChangeSchedule)
def change_schedule(command: ChangeSchedule, ports: Ports, causation_id: uuid.UUID) -> ChangeScheduleResult:
    if unknown := [name for name in command.changes if name not in CHANGEABLE]:
        right = f"is no field that can be changed: {', '.join(CHANGEABLE)} are"
        raise InvalidInput("a schedule", [FieldError(str(name), right, "unknown") for name in unknown])
    for number in range(MOST_PASSES):
        # Validating is the user's code, so it is done before; the edition tells whether it still holds.
        row = find_schedule(ports, command.schedule_id)
        before = {name: getattr(row, name) for name in CHANGEABLE}
        changed = frozenset(name for name, value in command.changes.items() if value != before[name])
        if not changed:
            # At a later pass it was this very command, whose COMMIT was not answered.
            return ChangeScheduleResult(changed=number > 0)
        values = check_schedule(ports, {**before, **command.changes}, changed=changed)
        new = {name: values[name] for name in changed}
        try:
            transact(ports, causation_id, lambda work: _change(work, row, new, command.note))  # noqa: B023
        except _Moved:
            continue
        return ChangeScheduleResult(changed=True)
    raise DatabaseConflict(f"Schedule {row.name!r} was changed by others {MOST_PASSES} times meanwhile; repeat.")


def find_schedule(ports: Ports, schedule_id: uuid.UUID) -> Schedule:
    """Return the schedule as it is now. Raises ``ScheduleNotFound``."""
    row = Schedule.objects.using(ports.using).filter(pk=schedule_id).first()
    if row is None:
        raise ScheduleNotFound(schedule_id)
    return row


def _change(work: UnitOfWork, row: Schedule, new: Mapping[str, Any], note: str) -> None:
    using, now = work.ports.using, work.ports.read_time()
    columns: dict[str, Any] = {**new, "changed_at": now, "error": note, "failures": 0}
    enabled, overlap = (new.get(name, getattr(row, name)) for name in ("enabled", "overlap"))
    if new.keys() & {"cron", "timezone", "enabled"}:
        cron, zone = (new.get(name, getattr(row, name)) for name in ("cron", "timezone"))
        columns["next_due_at"] = calendar_of(cron, zone).next_after(now) if enabled else None
    # Whatever waits, or was put off after an error, is looked at soon.
    columns["look_at"] = now if enabled else None
    try:
        with transaction.atomic(using=using):
            if not Schedule.objects.using(using).change(row, **columns):
                raise _Moved
            if not enabled or overlap != Overlap.QUEUE:
                _drop_waiting(using, row)
    except IntegrityError:
        raise name_taken(str(new.get("name", row.name))) from None


def _drop_waiting(using: str, row: Schedule) -> None:
    waiting = ScheduleFire.objects.using(using).waiting(row.pk)
    last = waiting.last()
    if last is not None:
        Schedule.objects.using(using).filter(pk=row.pk).update(
            last_skipped_at=last.due_at, last_skipped_reason=NO_QUEUE
        )
        waiting.order_by().delete()
