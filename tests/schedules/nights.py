"""A workflow for schedules, and ways to let time go by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.utils import timezone
from pydantic import BaseModel

from workflow_engine import StageContext, define_workflow, stage
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FireSchedules
from workflow_engine.models import Schedule, ScheduleFire, WorkflowRun
from workflow_engine.testing import FakeClock


class Night(BaseModel):
    folder: str
    copies: int = 1


@stage("sweep")
def sweep(ctx: StageContext[Night]) -> str:
    return f"{ctx.input.folder} {ctx.metadata.get('schedule', {}).get('due_at')}"


NIGHTLY = define_workflow("nightly", input=Night).pipe(sweep).build()
INPUT = {"folder": "in"}
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def utc(text: str) -> datetime:
    """Return a time given as ``2026-03-29 01:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fire(kernel: Kernel) -> int:
    """Do what is due, as orchestrators do, until nothing is; return how much was."""
    fired = 0
    while True:
        made = kernel.dispatch(FireSchedules(max=100))
        fired += made.fired
        if not made.fired:
            return fired


def pass_time(kernel: Kernel, clock: FakeClock, until: datetime, *, step: timedelta = MINUTE) -> None:
    """Let the clock go on, with an orchestrator that looks every minute."""
    while clock.now() < until:
        clock.move_to(min(until, clock.now() + step))
        fire(kernel)


def fired(schedule: Schedule) -> list[datetime]:
    """Return the times for which the schedule has started runs, having checked that each has one."""
    rows = list(ScheduleFire.objects.filter(schedule=schedule, run__isnull=False).order_by("due_at"))
    runs = WorkflowRun.objects.in_bulk([row.run_id for row in rows])
    assert len(runs) == len(rows)
    for row in rows:
        said = runs[row.run_id].metadata["schedule"]
        assert said == {"id": str(schedule.pk), "name": schedule.name, "due_at": row.due_at.isoformat()}
    return [row.due_at for row in rows]


def make_due() -> datetime:
    """Let the schedules be due now, by an expression that means this minute of the year only; return the minute."""
    minute = timezone.now().replace(second=0, microsecond=0)
    Schedule.objects.update(cron=f"{minute:%M %H %d %m} *", next_due_at=minute, look_at=minute)
    return minute


def end_runs() -> None:
    """Let all runs that go on end."""
    from workflow_engine import cancel_run

    for run in WorkflowRun.objects.open():
        cancel_run(run)
