"""``manage.py wfe_schedules``: the cron schedules: list, preview, take over from code, enable, disable, run now."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.schedules.cron import FireTime
from workflow_engine.management.command import (
    COMPLETED,
    FAILED,
    NOT_FOUND,
    UNAVAILABLE,
    USAGE,
    EngineCommand,
    Refusal,
    whoami,
)
from workflow_engine.management.printing import moment, table
from workflow_engine.management.reading import whole_number
from workflow_engine.models import Schedule
from workflow_engine.scheduling import (
    MOST_TIMES,
    change_schedule,
    find_schedule,
    next_times,
    run_schedule,
    sync_schedules,
)

ACTIONS = ("list", "next", "sync", "enable", "disable", "run-now")
NOTES = {
    "moved": "moved: the clocks leave its time out",
    "first_of_two": "the first of two: the hour comes twice",
    "second_of_two": "the second of two: the hour comes twice",
    "clocks_changed": "the clocks have changed",
}


class Command(EngineCommand):
    help = "List the schedules; or show the next times of one, make rows of those in the code, or change or run one."
    exit_codes = {
        COMPLETED: "shown, changed, or started",
        FAILED: "sync: a name in the code belongs to a schedule that was made by hand",
        USAGE: "the arguments are wrong, or a schedule in the code is",
        NOT_FOUND: "no such schedule",
        UNAVAILABLE: "the database refused to work, or cronsim is not installed",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="What to do (list).")
        parser.add_argument("schedule", nargs="?", metavar="NAME", help="Name or id of the schedule.")
        parser.add_argument("--cron", metavar="CRON", help="Of next, instead of NAME: an expression to look at.")
        parser.add_argument("--timezone", metavar="ZONE", help="Of next: show its times in this zone (UTC).")
        parser.add_argument(
            "--count", type=whole_number(1, MOST_TIMES), default=10, metavar="N", help="Of next: so many times (10)."
        )
        parser.add_argument("--dry-run", action="store_true", help="Of sync: say what it would do, and write nothing.")

    def handle(self, *, action: str, schedule: str | None, as_json: bool, **options: Any) -> None:
        needs_name = action in ("enable", "disable", "run-now") or (action == "next" and options["cron"] is None)
        if needs_name != (schedule is not None):
            right = "needs the NAME of a schedule" if needs_name else "takes no NAME"
            raise Refusal(f"{action} {right}.", returncode=USAGE, code="USAGE")
        if action == "list":
            self._list(as_json=as_json)
        elif action == "next":
            self._next(schedule, options, as_json=as_json)
        elif action == "sync":
            self._sync(dry_run=options["dry_run"], as_json=as_json)
        elif action == "run-now":
            run = run_schedule(schedule or "", actor=whoami())
            self._say({"run_id": run.pk}, f"Run {run.pk} is started.", as_json=as_json)
        else:
            row = change_schedule(schedule or "", enabled=action == "enable")
            text = f"{row.name} is {action}d; next: {moment(row.next_due_at)}"
            self._say(as_data(row), text, as_json=as_json)

    def _say(self, data: dict[str, Any], text: str, *, as_json: bool) -> None:
        if as_json:
            self.say_json(data)
        else:
            self.say(text)

    def _list(self, *, as_json: bool) -> None:
        rows = list(Schedule.objects.using(get_kernel().ports.using).order_by("name"))
        if as_json:
            self.say_json({"schedules": [as_data(row) for row in rows]})
            return
        if not rows:
            self.say("There are no schedules.")
            return
        header = ("name", "workflow", "cron", "time zone", "next", "last", "state")
        for line in table(header, [_line(row) for row in rows]):
            self.say(line)

    def _next(self, schedule: str | None, options: dict[str, Any], *, as_json: bool) -> None:
        cron, zone = options["cron"], options["timezone"] or "UTC"
        if schedule is not None:
            row = find_schedule(schedule)
            cron, zone = row.cron, row.timezone
        times = next_times(cron, zone, count=options["count"])
        if as_json:
            self.say_json({"cron": cron, "timezone": zone, "next": [time_as_data(one) for one in times]})
            return
        for line in _preview(times, zone):
            self.say(line)

    def _sync(self, *, dry_run: bool, as_json: bool) -> None:
        synced = sync_schedules(dry_run=dry_run)
        if as_json:
            self.say_json(
                {"dry_run": dry_run, "schedules": [{"name": one.name, "action": one.action} for one in synced]}
            )
        else:
            for one in synced:
                self.say(f"{one.name}: {one.action}")
            if not synced:
                self.say("No schedule is declared in the code.")
        if any(one.action == "taken" for one in synced):
            message = "A name in the code belongs to a schedule that was made by hand; rename one, or delete the row."
            raise Refusal(message, returncode=FAILED, code="TAKEN")


def _line(row: Schedule) -> tuple[str, ...]:
    state = "error" if row.error else "enabled" if row.enabled else "disabled"
    last = moment(row.last_fired_at)
    return row.name, row.workflow, row.cron, row.timezone, moment(row.next_due_at), last, state


def as_data(row: Schedule) -> dict[str, Any]:
    """Return a schedule as plain data; its input stays inside."""
    names = ("name", "workflow_id", "cron", "timezone", "overlap", "catch_up", "enabled", "declared", "next_due_at")
    more = ("last_fired_at", "last_skipped_at", "last_skipped_reason", "error")
    return {"schedule_id": row.pk, **{name: getattr(row, name) for name in (*names, *more)}}


def time_as_data(one: FireTime) -> dict[str, Any]:
    return {"at": one.at, "local": one.local.isoformat(), "notes": list(one.notes)}


def _preview(times: list[FireTime], zone: str) -> Iterator[str]:
    rows = [
        (
            f"{one.local:%a %Y-%m-%d %H:%M} {one.offset}",
            f"{one.at:%Y-%m-%d %H:%M}",
            "; ".join(NOTES[note] for note in one.notes),
        )
        for one in times
    ]
    yield from table((f"in {zone}", "in UTC", ""), rows)
