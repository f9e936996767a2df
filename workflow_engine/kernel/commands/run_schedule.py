"""``schedule.run``: a schedule's run is started now, because somebody asks for it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F

from workflow_engine.errors import ScheduleNotFound
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.schedules.starting import add_started, new_run, stamp
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.models.base import lock_rows

from .base import Command, handles
from .change_schedule import find_schedule
from .create_run import CreateRun, Prepared, insert, prepare


@dataclass(frozen=True, kw_only=True, slots=True)
class RunScheduleResult:
    run_id: uuid.UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSchedule(Command[RunScheduleResult]):
    """Start a run of a schedule now, enabled or not, whatever goes on; its times stay as they are.

    The next time of the schedule counts this run as one that goes on.

    Raises:
        ScheduleNotFound, WorkflowNotFound, InvalidInput, InvalidConfig: nothing was written.
    """

    type = "schedule.run"
    schedule_id: uuid.UUID
    actor: str = ""


@handles(RunSchedule)
def run_schedule(command: RunSchedule, ports: Ports, causation_id: uuid.UUID) -> RunScheduleResult:
    row = find_schedule(ports, command.schedule_id)
    new, prepared = prepare(new_run(row, actor=command.actor), ports)
    transact(ports, causation_id, lambda work: _run(work, row, new, prepared))
    return RunScheduleResult(run_id=prepared.run_id)


def _run(work: UnitOfWork, row: Schedule, new: CreateRun, prepared: Prepared) -> None:
    using = work.ports.using
    schedules, fires = Schedule.objects.using(using), ScheduleFire.objects.using(using)
    if lock_rows(schedules.filter(pk=row.pk)).values_list("pk", flat=True).first() is None:
        raise ScheduleNotFound(row.pk)
    if work.repeated and fires.filter(run=prepared.run_id).exists():
        return
    now = due_at = work.ports.read_time()
    # Never a time of the expression, which are whole minutes.
    while due_at.second == due_at.microsecond == 0 or fires.filter(schedule=row.pk, due_at=due_at).exists():
        due_at += timedelta(milliseconds=1)
    insert(work, stamp(new, row, due_at), prepared, now)
    add_started(work, row, due_at, prepared.run_id, now, by_hand=True)
    # What somebody has decided without knowing of this run is not written.
    schedules.filter(pk=row.pk).update(edition=F("edition") + 1, last_fired_at=now)
