"""What the doctor says of schedules, and what is deleted of them in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.schedules.nights import DAY, HOUR, INPUT, MINUTE, NIGHTLY, end_runs, fire, pass_time, utc
from workflow_engine import cancel_scheduled, create_schedule, schedule
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CreateRun, Prune
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import Schedule, ScheduledCommand, ScheduleFire, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
CREATE = CreateRun(workflow_id="nightly", input=INPUT)


@pytest.fixture(autouse=True)
def workflow(known: Callable[..., Any]) -> None:
    known(NIGHTLY)


def findings(kernel: Kernel) -> list[str]:
    return sorted(item.code for item in examine(kernel.ports).findings)


def test_what_is_overdue_is_found(kernel: Kernel, clock: FakeClock) -> None:
    create_schedule("night", NIGHTLY, "0 13 * * *", input=INPUT)
    schedule(CREATE, run_at=utc("2026-01-01 13:00"))
    clock.move_to(utc("2026-01-01 13:05"))
    assert findings(kernel) == []

    clock.advance(10 * MINUTE)

    assert findings(kernel) == ["schedule.overdue", "scheduled.overdue"]
    fire(kernel)
    assert findings(kernel) == []


def test_a_schedule_that_is_wrong_is_found(kernel: Kernel, clock: FakeClock) -> None:
    create_schedule("night", NIGHTLY, "0 13 * * *", input=INPUT)
    Schedule.objects.update(workflow="gone")
    clock.move_to(utc("2026-01-01 13:00"))

    fire(kernel)

    (finding,) = examine(kernel.ports).findings
    assert (finding.code, finding.severity) == ("schedule.wrong", "warning")
    assert "'night'" in finding.text
    assert "'gone'" in finding.text


def prune(kernel: Kernel, older_than: timedelta) -> int:
    command, deleted = Prune(what="schedules", older_than=older_than, max=3), 0
    while True:
        page = kernel.dispatch(command)
        deleted += page.deleted
        if page.place is None:
            return deleted


def test_what_has_ended_is_deleted_in_time_and_what_goes_on_is_not(kernel: Kernel, clock: FakeClock) -> None:
    row = create_schedule("hourly", NIGHTLY, "0 * * * *", input=INPUT, overlap="queue")
    schedule(CREATE, run_at=utc("2026-01-01 13:00"))
    cancel_scheduled(schedule(CREATE, run_at=utc("2026-01-01 13:00")))
    later = schedule(CREATE, run_at=utc("2027-01-01 13:00"))
    pass_time(kernel, clock, utc("2026-01-01 15:30"))
    end_runs()
    pass_time(kernel, clock, clock.now() + MINUTE)
    # One time has ended, one goes on, one waits.
    assert ScheduleFire.objects.count() == 3

    clock.advance(30 * DAY)
    assert prune(kernel, 31 * DAY) == 0
    assert prune(kernel, 29 * DAY) == 3

    assert list(ScheduledCommand.objects.all()) == [later]
    assert set(ScheduleFire.objects.values_list("state", flat=True)) == {"started", "waiting"}
    assert Schedule.objects.get() == row


def test_a_run_that_is_deleted_takes_its_time_along(kernel: Kernel, clock: FakeClock) -> None:
    create_schedule("hourly", NIGHTLY, "0 * * * *", input=INPUT)
    clock.advance(HOUR)
    fire(kernel)
    end_runs()
    clock.advance(HOUR)

    assert kernel.dispatch(Prune(what="runs", older_than=MINUTE)).deleted == 1

    assert not WorkflowRun.objects.exists()
    assert not ScheduleFire.objects.exists()
    assert fire(kernel) == 1
