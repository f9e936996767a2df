"""Several orchestrators meet at the same schedules and commands: each is fired once, and one of two that race wins."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Count
from django.utils import timezone

from tests.concurrency.threads import together
from tests.hosts.resting import holding
from tests.schedules.nights import INPUT, NIGHTLY, make_due
from tests.waiting import until
from workflow_engine import NewRun, cancel_scheduled, create_run, create_runs, create_schedule, run_schedule, schedule
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.schedules import declare_schedule, schedules_override
from workflow_engine.kernel.commands import CancelRun, CreateRun, FireSchedules
from workflow_engine.models import OutboxEvent, Schedule, ScheduledCommand, ScheduleFire, WorkflowRun
from workflow_engine.scheduling import sync_schedules
from workflow_engine.statuses import ScheduledStatus

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
ORCHESTRATORS, COUNT = 5, 200


@pytest.fixture(autouse=True)
def workflow(known: Any) -> None:
    known(NIGHTLY)


def anything_due() -> bool:
    now = get_kernel().ports.clock.db_now()
    return Schedule.objects.due(now).exists() or ScheduledCommand.objects.due(now).exists()


def fire_all() -> int:
    """Be one of many orchestrators, until nothing is due."""
    fired = 0
    while anything_due():
        fired += get_kernel().dispatch(FireSchedules(max=50)).fired
    return fired


def test_each_time_of_many_schedules_is_fired_once() -> None:
    for number in range(COUNT):
        create_schedule(
            f"night-{number}", NIGHTLY, "* * * * *", input=INPUT, overlap=("skip", "queue", "allow")[number % 3]
        )
    minute = make_due()

    together([fire_all] * ORCHESTRATORS)

    per_schedule = Counter(ScheduleFire.objects.filter(due_at=minute).values_list("schedule", flat=True))
    assert len(per_schedule) == COUNT
    assert set(per_schedule.values()) == {1}
    rows = ScheduleFire.objects.filter(run__isnull=False)
    assert rows.count() == WorkflowRun.objects.count() == COUNT
    assert not rows.values("schedule", "due_at").annotate(count=Count("pk")).filter(count__gt=1).exists()
    assert not Schedule.objects.exclude(error="").exists()


def test_each_of_many_commands_is_carried_out_once() -> None:
    now = timezone.now()
    runs = [one.run_id for one in create_runs([NewRun(NIGHTLY, INPUT) for _ in range(COUNT // 2)])]
    for run_id in runs:
        schedule(CancelRun(run_id=run_id), run_at=now)
        schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=now)

    fired = together([fire_all] * ORCHESTRATORS)

    assert sum(fired) == COUNT
    assert set(ScheduledCommand.objects.values_list("status", "tries")) == {("FIRED", 0)}
    assert WorkflowRun.objects.count() == COUNT
    assert WorkflowRun.objects.filter(status="CANCELLED").count() == COUNT // 2
    made = {row.result["run_id"] for row in ScheduledCommand.objects.filter(command="run.create")}
    assert len(made) == COUNT // 2
    assert OutboxEvent.objects.filter(type="run.cancelled").count() == COUNT // 2


def test_a_cancel_that_meets_the_moment_of_the_time_wins_or_loses_but_never_both() -> None:
    outcomes: Counter[tuple[bool, str]] = Counter()
    for number in range(40):
        run = create_run(NIGHTLY, INPUT)
        row = schedule(CancelRun(run_id=run.pk), run_at=timezone.now(), correlation_id=f"race-{number}")

        cancelled, _ = together([lambda row=row: cancel_scheduled(row.correlation_id), fire_all])  # type: ignore[misc]

        row.refresh_from_db()
        run.refresh_from_db()
        outcomes[cancelled, row.status] += 1
        assert (run.status == "CANCELLED") == (row.status == ScheduledStatus.FIRED)
    assert set(outcomes) <= {(True, "CANCELLED"), (False, "FIRED")}


def test_two_who_put_off_the_same_command_have_put_off_one() -> None:
    run = create_run(NIGHTLY, INPUT)
    at = timezone.now() + timedelta(hours=1)

    rows = together([lambda: schedule(CancelRun(run_id=run.pk), run_at=at, correlation_id="order-7")] * 5)

    assert len({row.pk for row in rows}) == ScheduledCommand.objects.count() == 1
    assert sum(row.was_created for row in rows) == 1


def test_a_run_that_somebody_holds_keeps_only_its_own_command_waiting(backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("one writer at a time: nothing is held beside another")
    held, free = create_run(NIGHTLY, INPUT), create_run(NIGHTLY, INPUT)
    rows = [schedule(CancelRun(run_id=run.pk), run_at=timezone.now()) for run in (held, free)]

    with holding(held):
        get_kernel().dispatch(FireSchedules())

    for row in rows:
        row.refresh_from_db()
    assert [(row.status, row.tries) for row in rows] == [("PENDING", 0), ("FIRED", 0)]
    until(lambda: get_kernel().dispatch(FireSchedules()).fired, "it is carried out a moment later")


def test_processes_of_one_deploy_make_one_row_of_a_declaration() -> None:
    with schedules_override():
        declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)

        together([sync_schedules] * 5)

    assert Schedule.objects.get().declared


def test_runs_by_hand_and_times_that_come_leave_one_run_each() -> None:
    row = create_schedule("night", NIGHTLY, "* * * * *", input=INPUT, overlap="allow")
    minute = make_due()

    together([fire_all, *[lambda: run_schedule("night")] * 4])

    fires = ScheduleFire.objects.filter(schedule=row)
    assert fires.filter(by_hand=True).count() == 4
    assert fires.filter(due_at=minute).count() == 1
    assert fires.count() == WorkflowRun.objects.count()
