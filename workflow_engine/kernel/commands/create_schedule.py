"""``schedule.create``: a workflow is run at the times of a cron expression from here on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from workflow_engine.errors import FieldError, InvalidInput
from workflow_engine.ids import uuid7
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.schedules.checking import CHANGEABLE, check_schedule
from workflow_engine.kernel.schedules.cron import calendar_of
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Schedule
from workflow_engine.statuses import CatchUp, Overlap

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateScheduleResult:
    schedule_id: uuid.UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateSchedule(Command[CreateScheduleResult]):
    """Create a schedule; the first time is the next one from now.

    Args:
        name: unique; lower-case words of letters and digits joined by ``-``.
        cron: five fields.
        timezone: a name of the IANA database.
        input: of each run; kept as it is given, so that defaults are those of the moment.
        overlap: ``skip``, ``queue`` or ``allow``: while a run of the schedule has not ended.
        catch_up: ``none``, ``one`` or ``all``: of the times at which nobody was there.

    Raises:
        InvalidInput: every field that is wrong is named; nothing was written.
        ExtraMissing: ``cronsim`` is not installed.
    """

    type = "schedule.create"
    name: str
    workflow_id: str
    cron: str
    timezone: str = "UTC"
    input: Any = None
    overlap: str = Overlap.SKIP
    catch_up: str = CatchUp.ONE
    enabled: bool = True
    declared: bool = False
    actor: str = ""


@handles(CreateSchedule)
def create_schedule(command: CreateSchedule, ports: Ports, causation_id: uuid.UUID) -> CreateScheduleResult:
    given = {name: getattr(command, name) for name in CHANGEABLE if name != "workflow"}
    values = check_schedule(ports, {**given, "workflow": command.workflow_id}, changed=frozenset(CHANGEABLE))
    row = Schedule(pk=uuid7(), created_by=str(scrub(command.actor)[:150]), **values)
    transact(ports, causation_id, lambda work: _create(work, row))
    return CreateScheduleResult(schedule_id=row.pk)


def _create(work: UnitOfWork, row: Schedule) -> None:
    using, now = work.ports.using, work.ports.read_time()
    rows = Schedule.objects.using(using)
    row.created_at = row.changed_at = now
    if row.enabled:
        row.next_due_at = row.look_at = calendar_of(row.cron, row.timezone).next_after(now)
    try:
        with transaction.atomic(using=using):
            rows.bulk_create([row])
    except IntegrityError:
        if work.repeated and rows.filter(pk=row.pk).exists():
            return
        raise name_taken(row.name) from None


def name_taken(name: str) -> InvalidInput:
    problem = FieldError("name", "another schedule has this name", "taken")
    return InvalidInput(f"schedule {name!r}", [problem])
