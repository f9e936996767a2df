"""``schedule.delete``: a schedule is gone; the runs that it has started stay."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import Schedule, ScheduleFire
from workflow_engine.models.base import lock_rows

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteScheduleResult:
    # False: there was none.
    deleted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteSchedule(Command[DeleteScheduleResult]):
    """Delete a schedule and the list of its times; its runs go on, and still say which schedule has started them."""

    type = "schedule.delete"
    schedule_id: uuid.UUID


@handles(DeleteSchedule)
def delete_schedule(command: DeleteSchedule, ports: Ports, causation_id: uuid.UUID) -> DeleteScheduleResult:
    return DeleteScheduleResult(deleted=transact(ports, causation_id, lambda work: _delete(work, command.schedule_id)))


def _delete(work: UnitOfWork, schedule_id: uuid.UUID) -> bool:
    using = work.ports.using
    rows = Schedule.objects.using(using).filter(pk=schedule_id)
    # First the schedule, as whoever starts its runs does.
    if lock_rows(rows).values_list("pk", flat=True).first() is None:
        return False
    ScheduleFire.objects.using(using).filter(schedule=schedule_id).delete()
    rows.delete()
    return True
