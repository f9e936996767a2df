"""Later and again: commands at a time, and workflows by cron expressions. The functions that users call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async

from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.definitions.schedules import DeclaredSchedule, declared_schedules
from workflow_engine.errors import FieldError, InvalidInput, ScheduleNotFound, shown
from workflow_engine.kernel.advertised import read_advertised
from workflow_engine.kernel.commands import (
    CancelScheduled,
    ChangeSchedule,
    Command,
    CreateSchedule,
    DeleteSchedule,
    RunSchedule,
    ScheduleCommand,
)
from workflow_engine.kernel.schedules.checking import check_schedule
from workflow_engine.kernel.schedules.cron import FireTime, calendar_of
from workflow_engine.kernel.schedules.deferring import payload_of
from workflow_engine.models import Schedule, ScheduledCommand, WorkflowRun
from workflow_engine.running import actor_name
from workflow_engine.statuses import CatchUp, Overlap

MOST_TIMES = 1000


def schedule(
    command: Command[Any] | str,
    payload: Mapping[str, Any] | None = None,
    *,
    run_at: datetime,
    correlation_id: str | None = None,
    actor: Any = None,
) -> ScheduledCommand:
    """Have a command carried out at a time, exactly once, by whichever worker comes first; return its row.

    It joins the caller's transaction. What is wrong with the command by now is said here; what is wrong with it then
    is said at its row, which is given up (``DEAD``).

    Args:
        command: ``CreateRun``, ``CancelRun``, ``RerunFrom``, ``PauseRun``, ``ResumeRun``, ``PauseWork`` or
            ``ResumeWork``; or its wire name, with the fields as ``payload``.
        run_at: aware; a time that is over: at once.
        correlation_id: your name for it, by which ``cancel_scheduled`` finds it. While it is pending the same call
            again changes nothing and returns the row, with ``was_created`` False; afterwards the id is free.
        actor: who does it, a user or text; None: whom the command names.

    Raises:
        InvalidInput: the field that is wrong is named; nothing was written.
        RunNotFound, StageNotFound, WorkflowNotFound, InvalidConfig: as the command itself would.
        AlreadyScheduled: another command is pending under this correlation id, or this one at another time.
    """
    if isinstance(command, Command):
        if payload is not None:
            problem = FieldError("payload", "goes with a wire name; a command has its fields itself")
            raise InvalidInput("a scheduled command", [problem])
        actor = getattr(command, "actor", "") if actor is None else actor
        payload, command = payload_of(command), command.type
    asked = ScheduleCommand(
        command=command,
        payload={} if payload is None else payload,
        run_at=run_at,
        correlation_id=correlation_id,
        actor=actor_name(actor),
    )
    return get_kernel().dispatch(asked).row


def cancel_scheduled(command: ScheduledCommand | str) -> bool:
    """Let a command that waits for its time not be carried out; False if none does.

    Of this and the moment of its time one wins, never both. Joins the caller's transaction.

    Args:
        command: its correlation id, or its row.
    """
    if isinstance(command, ScheduledCommand):
        return get_kernel().dispatch(CancelScheduled(command_id=command.pk)).cancelled
    return get_kernel().dispatch(CancelScheduled(correlation_id=command)).cancelled


def create_schedule(
    name: str,
    workflow: Workflow[Any, Any] | str,
    cron: str,
    *,
    timezone: str = "UTC",
    input: Any = None,
    overlap: str = Overlap.SKIP,
    catch_up: str = CatchUp.ONE,
    enabled: bool = True,
    actor: Any = None,
) -> Schedule:
    """Run a workflow at the times of a cron expression; return the schedule's row. Joins the caller's transaction.

    Args:
        name: unique; lower-case words of letters and digits joined by ``-``.
        cron: minute, hour, day of the month, month, day of the week.
        timezone: a name of the IANA database.
        input: of each run.
        overlap: what to do while a run of the schedule goes on: ``"skip"``, ``"queue"`` or ``"allow"``.
        catch_up: of times at which no worker was there: ``"none"``, the latest ``"one"``, or ``"all"`` (100 at most).

    Raises:
        InvalidInput: every field that is wrong is named; nothing was written.
        ExtraMissing: ``cronsim`` is not installed.
    """
    command = CreateSchedule(
        name=name,
        workflow_id=workflow if isinstance(workflow, str) else workflow.id,
        cron=cron,
        timezone=timezone,
        input=input,
        overlap=overlap,
        catch_up=catch_up,
        enabled=enabled,
        actor=actor_name(actor),
    )
    return find_schedule(get_kernel().dispatch(command).schedule_id)


def change_schedule(schedule: Schedule | uuid.UUID | str, **changes: Any) -> Schedule:
    """Change fields of a schedule, those of ``create_schedule``, and return it as it is then.

    A new cron expression or time zone counts from now, and so does one that is enabled again: for the time that it was
    disabled nothing is made up. Joins the caller's transaction. Raises ``ScheduleNotFound``, ``InvalidInput``.
    """
    if isinstance(changes.get("workflow"), Workflow):
        changes["workflow"] = changes["workflow"].id
    schedule_id = find_schedule(schedule).pk
    get_kernel().dispatch(ChangeSchedule(schedule_id=schedule_id, changes=changes))
    return find_schedule(schedule_id)


def delete_schedule(schedule: Schedule | uuid.UUID | str) -> None:
    """Delete a schedule; the runs that it has started stay. Joins the caller's transaction. ``ScheduleNotFound``."""
    get_kernel().dispatch(DeleteSchedule(schedule_id=find_schedule(schedule).pk))


def run_schedule(schedule: Schedule | uuid.UUID | str, *, actor: Any = None) -> WorkflowRun:
    """Start a run of a schedule now, enabled or not, whatever goes on; its times stay as they are.

    Joins the caller's transaction. Raises ``ScheduleNotFound``, and what ``create_run`` raises.
    """
    kernel = get_kernel()
    result = kernel.dispatch(RunSchedule(schedule_id=find_schedule(schedule).pk, actor=actor_name(actor)))
    return WorkflowRun.objects.using(kernel.ports.using).select_related("data").get(pk=result.run_id)


def next_times(cron: str, timezone: str = "UTC", *, count: int = 10, after: datetime | None = None) -> list[FireTime]:
    """Return the next times that a cron expression means in a zone, after now or ``after``.

    Raises:
        InvalidInput: the expression, the zone or ``count`` (1 to 1,000) is wrong.
        ExtraMissing: ``cronsim`` is not installed.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MOST_TIMES:
        problem = FieldError("count", f"must be a whole number from 1 to {MOST_TIMES:,}, got {shown(count)}")
        raise InvalidInput("next_times", [problem])
    return calendar_of(cron, timezone).preview(get_kernel().ports.clock.now() if after is None else after, count)


def find_schedule(schedule: Schedule | uuid.UUID | str) -> Schedule:
    """Return a schedule as it is now; given as row, id, text of an id, or name. Raises ``ScheduleNotFound``."""
    rows = Schedule.objects.using(get_kernel().ports.using)
    if isinstance(schedule, Schedule):
        schedule = schedule.pk
    found = None
    if isinstance(schedule, uuid.UUID):
        found = rows.filter(pk=schedule).first()
    elif isinstance(schedule, str) and schedule.isprintable():
        found = rows.filter(name=schedule).first() or _by_text(schedule)
    if found is None:
        raise ScheduleNotFound(schedule)
    return found


def _by_text(text: str) -> Schedule | None:
    try:
        return Schedule.objects.using(get_kernel().ports.using).filter(pk=uuid.UUID(text)).first()
    except ValueError:
        return None


async def aschedule(
    command: Command[Any] | str, payload: Mapping[str, Any] | None = None, **options: Any
) -> ScheduledCommand:
    """``schedule`` in a transaction of its own, for async code."""
    return await sync_to_async(schedule, thread_sensitive=False)(command, payload, **options)


async def acancel_scheduled(command: ScheduledCommand | str) -> bool:
    """``cancel_scheduled`` in a transaction of its own, for async code."""
    return await sync_to_async(cancel_scheduled, thread_sensitive=False)(command)


NOT_DECLARED = "The code that was synchronised last does not declare it: it is enabled again when one does."


@dataclass(frozen=True, slots=True)
class SyncedSchedule:
    """What has become of a schedule: ``created``, ``changed``, ``unchanged``, ``disabled`` (the code has it no more) or
    ``taken`` (somebody has made one of this name by hand, and it stays as it is)."""

    name: str
    action: str


def sync_schedules(*, dry_run: bool = False) -> list[SyncedSchedule]:
    """Make rows of the schedules that are declared in code; return what has become of each.

    Fields become those in the code; whether it is enabled stays as it is. Rows whose declaration is gone are disabled,
    and enabled again if it comes back and nobody has changed them meanwhile.

    Raises:
        InvalidInput: a declaration is wrong; what came before it is written.
    """
    declared = {one.name: one for one in declared_schedules()}
    rows = {row.name: row for row in Schedule.objects.using(get_kernel().ports.using)}
    synced = [_sync(one, rows.get(name), dry_run=dry_run) for name, one in declared.items()]
    for name, row in sorted(rows.items()):
        if row.declared and name not in declared:
            # What other code declares in the same database is that code's.
            goes = row.enabled and not _is_of_others(row.workflow)
            synced.append(SyncedSchedule(name, "disabled" if goes else "unchanged"))
            if goes and not dry_run:
                command = ChangeSchedule(schedule_id=row.pk, changes={"enabled": False}, note=NOT_DECLARED)
                get_kernel().dispatch(command)
    return synced


def _is_of_others(workflow_id: str) -> bool:
    ports = get_kernel().ports
    return workflow_id not in ports.known_workflows() and read_advertised(ports).is_elsewhere(workflow_id)


def _sync(one: DeclaredSchedule, row: Schedule | None, *, dry_run: bool) -> SyncedSchedule:
    kernel = get_kernel()
    fields = {
        "name": one.name,
        "workflow": one.workflow.id,
        "cron": one.cron,
        "timezone": one.timezone,
        "input": one.input,
        "overlap": one.overlap,
        "catch_up": one.catch_up,
    }
    everything = {**fields, "enabled": True, "declared": True}
    checked = check_schedule(kernel.ports, everything, changed=frozenset(everything))
    if row is None:
        if not dry_run:
            given = {name: value for name, value in fields.items() if name != "workflow"}
            command = CreateSchedule(workflow_id=one.workflow.id, declared=True, actor="wfe_schedules", **given)
            try:
                kernel.dispatch(command)
            except InvalidInput:
                # Another process of the same deploy may have been quicker.
                there = Schedule.objects.using(kernel.ports.using).filter(name=one.name).first()
                if there is None:
                    raise
                return _sync(one, there, dry_run=dry_run)
        return SyncedSchedule(one.name, "created")
    if not row.declared:
        return SyncedSchedule(one.name, "taken")
    changes = {name: checked[name] for name in fields if checked[name] != getattr(row, name)}
    if not row.enabled and row.error == NOT_DECLARED:
        # It was disabled only since an older release, or a rollback, did not have it.
        changes["enabled"] = True
    if changes and not dry_run:
        kernel.dispatch(ChangeSchedule(schedule_id=row.pk, changes=changes))
    return SyncedSchedule(one.name, "changed" if changes else "unchanged")
