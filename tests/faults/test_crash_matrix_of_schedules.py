"""A real worker process dies by SIGKILL while it fires what is due; others go on; everything is fired once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from tests.faults.takeover import killed, take_over
from tests.faults.workflows import crashing
from tests.invariants import check_all, events
from tests.schedules.nights import make_due
from workflow_engine import create_run, create_schedule, pause_run, schedule
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import CancelRun, CreateRun
from workflow_engine.models import Schedule, ScheduledCommand, ScheduleFire, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
OF_COMMANDS = (points.DEFERRED_PREPARED, points.DEFERRED_IN_TX, points.DEFERRED_AFTER)
OF_CRON = (points.SCHEDULE_PREPARED, points.SCHEDULE_IN_TX, points.SCHEDULE_AFTER)
SCHEDULE_POINTS = (*OF_COMMANDS, *OF_CRON)
COUNT = 5
# So that the runs are left alone: this is about whether they are made.
OPTIONS = ("--queues", "nobodys")


@pytest.mark.parametrize("hit", [1, 3])
@pytest.mark.parametrize("point", OF_COMMANDS)
def test_a_command_is_carried_out_once_whoever_dies(point: str, hit: int) -> None:
    with registry_override(crashing):
        runs = [create_run(crashing, "input") for _ in range(COUNT)]
        for run in runs:
            pause_run(run)
            schedule(CancelRun(run_id=run.pk), run_at=timezone.now())
            schedule(CreateRun(workflow_id="crashing", input="put off"), run_at=timezone.now() + timedelta(days=1))
        ScheduledCommand.objects.update(due_at=timezone.now())

    killed(f"{point}:{hit}", *OPTIONS)
    # At whatever instant: what has happened and what is written of it are the same.
    rows = ScheduledCommand.objects.filter(status="FIRED")
    made = WorkflowRun.objects.count() - COUNT
    assert made == rows.filter(command="run.create").count()
    assert WorkflowRun.objects.filter(status="CANCELLED").count() == rows.filter(command="run.cancel").count()
    assert rows.count() == (hit if point == points.DEFERRED_AFTER else hit - 1)
    take_over(lambda: not ScheduledCommand.objects.pending().exists(), *OPTIONS, workers=2)

    assert set(ScheduledCommand.objects.values_list("status", "tries")) == {("FIRED", 0)}
    assert WorkflowRun.objects.count() == 2 * COUNT
    for run in runs:
        assert events(run).count("run.cancelled") == 1
    check_all()


def all_fired(due: datetime) -> bool:
    return ScheduleFire.objects.count() >= COUNT and not Schedule.objects.filter(look_at=due).exists()


@pytest.mark.parametrize("hit", [1, 3])
@pytest.mark.parametrize("point", OF_CRON)
def test_a_time_is_fired_once_whoever_dies(point: str, hit: int) -> None:
    with registry_override(crashing):
        for number in range(COUNT):
            create_schedule(f"night-{number}", crashing, "0 0 1 1 *", input="by night", overlap="allow")
    due = make_due()

    killed(f"{point}:{hit}", *OPTIONS)
    made = ScheduleFire.objects.count()
    assert made == WorkflowRun.objects.count() == (hit if point == points.SCHEDULE_AFTER else hit - 1)
    take_over(lambda: all_fired(due), *OPTIONS, workers=2)

    assert ScheduleFire.objects.filter(due_at=due).count() == WorkflowRun.objects.count() == COUNT
    assert not Schedule.objects.exclude(error="", last_fired_at__isnull=False).exists()
    check_all()
