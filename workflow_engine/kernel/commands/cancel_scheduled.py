"""``command.cancel_scheduled``: a command that waits for its time is not carried out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import ScheduledCommand

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelScheduledResult:
    # False: none is pending under this id: it was carried out, cancelled or given up, or there never was one.
    cancelled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelScheduled(Command[CancelScheduledResult]):
    """Cancel a pending command, by its correlation id or its own id. Of a cancel and a fire at once, one wins."""

    type = "command.cancel_scheduled"
    correlation_id: str | None = None
    command_id: uuid.UUID | None = None


@handles(CancelScheduled)
def cancel_scheduled(command: CancelScheduled, ports: Ports, causation_id: uuid.UUID) -> CancelScheduledResult:
    return CancelScheduledResult(cancelled=transact(ports, causation_id, lambda work: _cancel(work, command)))


def _cancel(work: UnitOfWork, command: CancelScheduled) -> bool:
    rows = ScheduledCommand.objects.using(work.ports.using)
    if command.correlation_id is not None:
        rows = rows.of(command.correlation_id)
    elif command.command_id is not None:
        rows = rows.filter(pk=command.command_id)
    else:
        return False
    # Waits for whoever carries it out just now; then it is not pending any more.
    return bool(rows.cancel(work.ports.clock.db_now()))
