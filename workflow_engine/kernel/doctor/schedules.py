"""What should have happened at its time and has not, and schedules that cannot start their runs."""

from __future__ import annotations

from collections.abc import Iterator

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import Schedule, ScheduledCommand

from .findings import Finding, finding
from .moving import LATE, time_of


def overdue_commands(ports: Ports) -> Iterator[Finding]:
    rows = ScheduledCommand.objects.using(ports.using).filter(due_at__lt=time_of(ports) - LATE).order_by("due_at", "id")
    for command, correlation_id, due_at in rows.values_list("command", "correlation_id", "due_at").iterator():
        text = f"{command} {correlation_id!r} was due at {due_at:%Y-%m-%d %H:%M:%S} UTC and is not carried out."
        yield finding("scheduled.overdue", None, text=text)


def overdue_schedules(ports: Ports) -> Iterator[Finding]:
    rows = Schedule.objects.using(ports.using).filter(look_at__lt=time_of(ports) - LATE).order_by("look_at", "id")
    for name, look_at in rows.values_list("name", "look_at").iterator():
        text = f"Nobody has looked at schedule {name!r} since {look_at:%Y-%m-%d %H:%M:%S} UTC, when it was due."
        yield finding("schedule.overdue", None, text=text)


def wrong_schedules(ports: Ports) -> Iterator[Finding]:
    rows = Schedule.objects.using(ports.using).filter(enabled=True).exclude(error="").order_by("name")
    for name, error, failures in rows.values_list("name", "error", "failures").iterator():
        text = f"Schedule {name!r} cannot start its run, tried {failures} times: {error}"
        yield finding("schedule.wrong", None, text=text)
