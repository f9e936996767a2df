"""``command.schedule``: a command is to be carried out later, exactly if the transaction commits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from workflow_engine.definitions.stages import DEFAULT_QUEUE
from workflow_engine.errors import AlreadyScheduled, DatabaseConflict, FieldError, InvalidInput, InvalidPayload, shown
from workflow_engine.ids import uuid7
from workflow_engine.kernel.payloads import check_column, scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.schedules.deferring import deferrable
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import ScheduledCommand
from workflow_engine.models.scheduled_commands import MAX_CORRELATION_ID, correlation_digest

from .base import Command, handles
from .create_run import problem_with_time

# What is due sooner is told to workers; they look for the rest by themselves.
SOON = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleCommandResult:
    row: ScheduledCommand = field(repr=False)
    # False: the same command was pending at the same time, under this correlation id.
    created: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleCommand(Command[ScheduleCommandResult]):
    """Have a command carried out at ``run_at``, once.

    Args:
        command: the wire name of one that can be put off.
        payload: its fields as JSON, without who does it, keys and times.
        run_at: aware; what is over is done at once.
        correlation_id: names the command while it is pending. None: one of its own.

    Raises:
        InvalidInput, and what the command itself would say of its fields now: nothing was written.
        AlreadyScheduled: another command is pending under this correlation id, or this one at another time.
    """

    type = "command.schedule"
    command: str
    payload: Mapping[str, Any]
    run_at: datetime
    correlation_id: str | None = None
    actor: str = ""


@handles(ScheduleCommand)
def schedule_command(command: ScheduleCommand, ports: Ports, causation_id: uuid.UUID) -> ScheduleCommandResult:
    _check(command, ports)
    row = ScheduledCommand(
        pk=uuid7(),
        command=command.command,
        # As the database gives it back, to be compared.
        payload=json.loads(json.dumps(dict(command.payload))),
        run_at=command.run_at,
        due_at=command.run_at,
        actor=str(scrub(command.actor)[:150]),
    )
    row.correlation_id = command.correlation_id or str(row.pk)
    row.pending_key = correlation_digest(row.correlation_id)
    return transact(ports, causation_id, lambda work: _schedule(work, row))


def _check(command: ScheduleCommand, ports: Ports) -> None:
    problems = []
    if problem := problem_with_time(command.run_at):
        problems.append(FieldError("run_at", problem))
    correlation = command.correlation_id
    if correlation is not None and not (
        isinstance(correlation, str) and 0 < len(correlation) <= MAX_CORRELATION_ID and correlation.isprintable()
    ):
        right = f"must be printable text of 1 to {MAX_CORRELATION_ID} characters"
        problems.append(FieldError("correlation_id", f"{right}, got {shown(correlation)}"))
    if not isinstance(command.payload, Mapping):
        problems.append(FieldError("payload", f"must be a mapping, got {type(command.payload).__name__}"))
    if problems:
        raise InvalidInput("a scheduled command", problems)
    kind = deferrable(command.command)
    try:
        check_column(dict(command.payload))
    except InvalidPayload as error:
        raise InvalidInput(f"a scheduled {command.command}", [FieldError(error.path, error.problem)]) from error
    size, most = len(json.dumps(dict(command.payload)).encode()), ports.limits.inline_payload_bytes
    if size > most:
        problem = f"has {size:,} bytes of JSON, at most {most:,} are kept here (setting INLINE_PAYLOAD_BYTES)"
        raise InvalidInput(f"a scheduled {command.command}", [FieldError("payload", problem)])
    kind.check(kind.read(command.payload, command.actor), ports)


def _schedule(work: UnitOfWork, row: ScheduledCommand) -> ScheduleCommandResult:
    using, now = work.ports.using, work.ports.read_time()
    rows = ScheduledCommand.objects.using(using)
    row.created_at = now
    try:
        with transaction.atomic(using=using):
            rows.bulk_create([row])
    except IntegrityError:
        found = rows.of(row.correlation_id).first()
        if found is None:
            if work.repeated and (mine := rows.filter(pk=row.pk).first()) is not None:
                return ScheduleCommandResult(row=mine, created=True)
            raise DatabaseConflict("The command of this correlation id has just ended; repeat the call.") from None
        if found.pk != row.pk and not found.is_alike(row):
            raise AlreadyScheduled(found.correlation_id, found.command, found.run_at.isoformat()) from None
        found.was_created = found.pk == row.pk
        return ScheduleCommandResult(row=found, created=found.was_created)
    if row.run_at - now < SOON:
        work.ring_queue(DEFAULT_QUEUE)
    return ScheduleCommandResult(row=row, created=True)
