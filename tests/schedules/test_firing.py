"""``FireSchedules``: the runs of cron schedules, with overlaps and what was missed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from pydantic import AfterValidator

from tests.janitors import worker
from tests.schedules.nights import DAY, HOUR, INPUT, MINUTE, NIGHTLY, end_runs, fire, fired, pass_time, utc
from tests.schedules.test_times import NIGHTS
from tests.workflows import chain
from workflow_engine import cancel_run, change_schedule, create_schedule, delete_schedule, run_schedule, schedule
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.errors import ExtraMissing
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, CreateRun, FireSchedules
from workflow_engine.kernel.schedules.cron import calendar_of
from workflow_engine.kernel.schedules.turns import BACKLOG, MISSED, STILL_GOES_ON
from workflow_engine.models import Schedule, ScheduledCommand, ScheduleFire, WorkflowRun
from workflow_engine.models.schedules import ScheduleQuerySet
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def workflow(known: Any) -> Iterator[None]:
    known(NIGHTLY)
    yield


def hourly(**options: Any) -> Schedule:
    """A schedule of every full hour; the clock stands at noon."""
    return create_schedule("hourly", NIGHTLY, "0 * * * *", input=INPUT, **options)


def test_each_time_makes_one_run_that_says_why_it_exists(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly()
    assert schedule.next_due_at == utc("2026-01-01 13:00")
    assert fire(kernel) == 0

    clock.move_to(utc("2026-01-01 13:00"))

    assert (fire(kernel), fire(kernel)) == (1, 0)
    assert fired(schedule) == [utc("2026-01-01 13:00")]
    schedule.refresh_from_db()
    assert schedule.next_due_at == utc("2026-01-01 14:00")
    assert schedule.last_fired_at == clock.now()
    InlineHost(kernel).drain()
    run = WorkflowRun.objects.get()
    assert run.get_output() == "in 2026-01-01T13:00:00+00:00"
    assert run.data.created_by == "schedule:hourly"
    assert list(run.annotations.values_list("key", "value")) == [("trigger.source", "schedule")]


def test_a_quiet_schedule_costs_two_reads_and_nothing_else(kernel: Kernel, clock: FakeClock) -> None:
    hourly()

    with CaptureQueriesContext(connection) as asked:
        kernel.dispatch(FireSchedules())

    assert len(asked) == 2


@pytest.mark.parametrize(
    ("catch_up", "times"),
    [
        ("none", []),
        ("one", ["2026-01-04 12:00"]),
        ("all", [f"2026-01-{1 + hour // 24:02} {hour % 24:02}:00" for hour in range(13, 3 * 24 + 13)]),
    ],
)
def test_after_three_days_without_anybody_the_schedule_makes_up_as_it_says(
    kernel: Kernel, clock: FakeClock, catch_up: str, times: list[str]
) -> None:
    schedule = hourly(catch_up=catch_up, overlap="allow")
    clock.move_to(utc("2026-01-04 12:30"))

    assert fire(kernel) == len(times)

    assert fired(schedule) == [utc(time) for time in times]
    schedule.refresh_from_db()
    assert schedule.next_due_at == utc("2026-01-04 13:00")
    assert (schedule.last_skipped_reason == MISSED) == (catch_up != "all")


def test_no_more_than_a_hundred_are_made_up(kernel: Kernel, clock: FakeClock) -> None:
    schedule = create_schedule("minutely", NIGHTLY, "* * * * *", input=INPUT, catch_up="all", overlap="allow")
    clock.advance(3 * DAY)

    assert fire(kernel) == 100

    times = fired(schedule)
    assert (times[0], times[-1]) == (clock.now() - 99 * MINUTE, clock.now())
    schedule.refresh_from_db()
    assert (schedule.last_skipped_at, schedule.last_skipped_reason) == (utc("2026-01-01 12:01"), MISSED)


@pytest.mark.parametrize(("zone", "midnight", "cron", "times"), NIGHTS)
def test_on_the_nights_on_which_clocks_change_each_time_makes_one_run(
    kernel: Kernel, clock: FakeClock, zone: str, midnight: str, cron: str, times: list[str]
) -> None:
    start = utc(midnight)
    clock.move_to(start - MINUTE)
    schedule = create_schedule("night", NIGHTLY, cron, timezone=zone, input=INPUT, overlap="allow")

    pass_time(kernel, clock, start + (4 if start.month == 3 else 6) * HOUR, step=5 * MINUTE)

    assert [f"{at:%H:%M}" for at in fired(schedule)] == times


@pytest.mark.parametrize("late", [0, 5, 6])
def test_what_is_late_by_minutes_is_not_missed(kernel: Kernel, clock: FakeClock, late: int) -> None:
    schedule = hourly(catch_up="none")
    clock.move_to(utc("2026-01-01 13:00") + late * MINUTE)

    fire(kernel)

    assert len(fired(schedule)) == (late <= 5)


def test_a_time_is_skipped_while_the_run_before_goes_on(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="skip")
    pass_time(kernel, clock, utc("2026-01-01 14:30"))
    assert fired(schedule) == [utc("2026-01-01 13:00")]
    schedule.refresh_from_db()
    assert (schedule.last_skipped_at, schedule.last_skipped_reason) == (utc("2026-01-01 14:00"), STILL_GOES_ON)

    end_runs()
    pass_time(kernel, clock, utc("2026-01-01 15:00"))

    assert fired(schedule) == [utc("2026-01-01 13:00"), utc("2026-01-01 15:00")]


def test_runs_that_may_overlap_do(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="allow")

    pass_time(kernel, clock, utc("2026-01-01 15:00"), step=HOUR)

    assert len(fired(schedule)) == WorkflowRun.objects.open().count() == 3


def test_queued_times_wait_for_each_other_in_order(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="queue")
    pass_time(kernel, clock, utc("2026-01-01 15:30"))
    started = []
    for _ in range(3):
        assert WorkflowRun.objects.open().count() == 1
        started.append(fired(schedule)[-1])
        end_runs()
        pass_time(kernel, clock, clock.now() + MINUTE)

    assert started == [utc("2026-01-01 13:00"), utc("2026-01-01 14:00"), utc("2026-01-01 15:00")]
    assert not WorkflowRun.objects.open().exists()
    assert not ScheduleFire.objects.filter(state="waiting").exists()


def test_the_end_of_a_run_is_seen_within_seconds(kernel: Kernel, clock: FakeClock) -> None:
    schedule = create_schedule("minutely", NIGHTLY, "* * * * *", input=INPUT, overlap="queue")
    pass_time(kernel, clock, utc("2026-01-01 12:02"))
    end_runs()

    # The run was a minute old, so it is asked after every six seconds.
    clock.advance(6 * MINUTE / 60)

    assert fire(kernel) == 1
    assert fired(schedule)[-1] == utc("2026-01-01 12:02")


def test_no_more_than_a_hundred_wait(kernel: Kernel, clock: FakeClock) -> None:
    schedule = create_schedule("minutely", NIGHTLY, "* * * * *", input=INPUT, overlap="queue")

    pass_time(kernel, clock, clock.now() + 103 * MINUTE)

    assert ScheduleFire.objects.filter(state="waiting").count() == 100
    schedule.refresh_from_db()
    assert schedule.last_skipped_reason == BACKLOG


def test_a_schedule_that_is_enabled_again_makes_up_nothing(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(catch_up="all", overlap="allow")
    change_schedule(schedule, enabled=False)
    pass_time(kernel, clock, utc("2026-01-01 15:30"), step=HOUR)

    schedule = change_schedule(schedule, enabled=True)

    assert schedule.next_due_at == utc("2026-01-01 16:00")
    pass_time(kernel, clock, utc("2026-01-01 16:00"))
    assert fired(schedule) == [utc("2026-01-01 16:00")]


def test_what_waits_is_dropped_when_the_schedule_is_disabled(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="queue")
    pass_time(kernel, clock, utc("2026-01-01 14:30"))

    schedule = change_schedule(schedule, enabled=False)

    assert not ScheduleFire.objects.filter(state="waiting").exists()
    assert schedule.last_skipped_at == utc("2026-01-01 14:00")
    end_runs()
    assert fire(kernel) == 0


def test_another_expression_or_zone_counts_from_now(kernel: Kernel, clock: FakeClock) -> None:
    schedule = create_schedule("daily", NIGHTLY, "0 13 * * *", input=INPUT)

    schedule = change_schedule(schedule, timezone="Asia/Kolkata")
    assert schedule.next_due_at == utc("2026-01-02 07:30")
    schedule = change_schedule(schedule, cron="0 18 * * *")
    assert schedule.next_due_at == utc("2026-01-01 12:30")
    before = schedule.next_due_at
    schedule = change_schedule(schedule, overlap="allow", input={"folder": "out"})

    assert schedule.next_due_at == before


def test_a_run_by_hand_is_started_whatever_goes_on_and_counts_as_one(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="skip")
    change_schedule(schedule, enabled=False)

    runs = [run_schedule("hourly", actor="ada") for _ in range(2)]

    assert len(fired(schedule)) == 2
    assert {run.data.created_by for run in runs} == {"ada"}
    assert runs[0].metadata["schedule"]["name"] == "hourly"
    change_schedule(schedule, enabled=True)
    pass_time(kernel, clock, utc("2026-01-01 13:00"))
    assert len(fired(schedule)) == 2
    assert set(ScheduleFire.objects.values_list("by_hand", flat=True)) == {True}


def test_a_schedule_that_is_wrong_says_so_and_holds_up_nobody(kernel: Kernel, clock: FakeClock) -> None:
    wrong = {
        name: create_schedule(name, NIGHTLY, "0 * * * *", input=INPUT) for name in ("cron", "zone", "workflow", "input")
    }
    good = hourly()
    rows = Schedule.objects.all()
    rows.filter(name="cron").update(cron="0 0 30 2 *")
    rows.filter(name="zone").update(timezone="Europe/Atlantis")
    rows.filter(name="workflow").update(workflow="gone")
    rows.filter(name="input").update(input={"copies": "many"})

    clock.move_to(utc("2026-01-01 13:00"))
    result = kernel.dispatch(FireSchedules())

    assert (result.fired, result.failed) == (1, 4)
    assert len(fired(good)) == 1
    errors = {row.name: row.error for row in rows.all()}
    assert "never comes" in errors["cron"]
    assert "Europe/Atlantis" in errors["zone"]
    assert "'gone'" in errors["workflow"]
    assert "folder" in errors["input"]
    assert errors["hourly"] == ""
    # Not asked again at once, and less and less often.
    assert kernel.dispatch(FireSchedules()).failed == 0
    clock.advance(MINUTE / 6)
    assert kernel.dispatch(FireSchedules()).failed == 4
    clock.advance(MINUTE / 6)
    assert kernel.dispatch(FireSchedules()).failed == 0
    change_schedule(wrong["cron"], cron="0 14 * * *")
    rows.filter(name="workflow").update(workflow="nightly")
    pass_time(kernel, clock, utc("2026-01-01 14:00"))
    # What was mended has caught up with the latest it had missed.
    assert fired(wrong["workflow"])[0] == utc("2026-01-01 13:00")
    assert fired(wrong["cron"]) == [utc("2026-01-01 14:00")]
    assert {row.name for row in rows.all() if row.error} == {"zone", "input"}


def test_a_workflow_that_comes_back_with_a_deploy_goes_on(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly()
    clock.move_to(utc("2026-01-01 13:00"))
    with registry_override():
        fire(kernel)
    assert Schedule.objects.get().error

    clock.advance(MINUTE)
    fire(kernel)

    assert len(fired(schedule)) == 1
    assert Schedule.objects.get().error == ""


@pytest.mark.parametrize("most", [1, 100])
def test_a_workflow_that_only_other_workers_have_is_left_to_them(
    kernel: Kernel, clock: FakeClock, known: Any, most: int
) -> None:
    mine = known(chain(1, "mine"))
    theirs, own = hourly(), create_schedule("own", mine, "1 * * * *", input={"value": 1})
    clock.move_to(utc("2026-01-01 13:01"))
    kernel.dispatch(Beat(worker=worker({"nightly": ["sweep"]}), running={}))

    with registry_override(mine):
        assert kernel.dispatch(FireSchedules(max=most)).fired == 1

    assert len(fired(own)) == 1
    assert Schedule.objects.get(pk=theirs.pk).error == ""
    assert kernel.dispatch(FireSchedules(max=most)).fired == 1


def test_the_database_refuses_a_time_twice(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly()
    clock.move_to(utc("2026-01-01 13:00"))
    fire(kernel)
    row = ScheduleFire.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        ScheduleFire.objects.create(schedule=schedule, due_at=row.due_at, state="started")


def test_a_clock_that_has_gone_back_fires_nothing_again(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="allow")
    clock.move_to(utc("2026-01-01 13:00"))
    fire(kernel)
    Schedule.objects.update(next_due_at=utc("2026-01-01 13:00"), look_at=utc("2026-01-01 13:00"))

    assert fire(kernel) == 0

    assert len(fired(schedule)) == 1
    schedule.refresh_from_db()
    assert (schedule.next_due_at, schedule.error) == (utc("2026-01-01 14:00"), "")


def test_what_is_deleted_fires_no_more_and_its_runs_stay(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly()
    clock.move_to(utc("2026-01-01 13:00"))
    fire(kernel)

    delete_schedule(schedule)

    clock.advance(HOUR)
    assert fire(kernel) == 0
    assert WorkflowRun.objects.get().metadata["schedule"]["name"] == "hourly"
    assert not ScheduleFire.objects.exists()


def test_many_due_schedules_are_done_page_by_page(kernel: Kernel, clock: FakeClock) -> None:
    for number in range(7):
        create_schedule(f"hourly-{number}", NIGHTLY, "0 * * * *", input=INPUT)
    clock.move_to(utc("2026-01-01 13:00"))

    made = [kernel.dispatch(FireSchedules(max=3)) for _ in range(3)]

    assert [(one.fired, one.is_full) for one in made] == [(3, True), (3, True), (1, False)]


def test_a_run_that_was_cancelled_is_over_too(kernel: Kernel, clock: FakeClock) -> None:
    schedule = hourly(overlap="skip")
    clock.move_to(utc("2026-01-01 13:00"))
    fire(kernel)
    cancel_run(WorkflowRun.objects.get())

    clock.advance(HOUR)

    assert fire(kernel) == 1
    assert ScheduleFire.objects.filter(schedule=schedule, state="ended").count() == 1


def test_what_a_process_without_cronsim_cannot_do_is_left_to_others(
    kernel: Kernel, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_schedule("night", NIGHTLY, "0 * * * *", input=INPUT)
    row = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=clock.now())
    clock.advance(HOUR)
    monkeypatch.setitem(sys.modules, "cronsim", None)
    calendar_of.cache_clear()

    with pytest.raises(ExtraMissing, match=r"django-durable-workflows\[schedule\]"):
        kernel.dispatch(FireSchedules())

    row.refresh_from_db()
    assert row.status == "FIRED"
    assert Schedule.objects.get().error == ""


def test_a_schedule_whose_own_code_meets_an_error_of_a_database_stops_no_other(
    kernel: Kernel, clock: FakeClock, known: Any
) -> None:
    def ask(value: Any) -> Any:
        if schedule_is_wrong:
            raise OperationalError("no such table: elsewhere")
        return value

    @stage("looks")
    def looks(ctx: StageContext[Annotated[dict[str, str], AfterValidator(ask)]]) -> None:
        return

    schedule_is_wrong = False
    asking = define_workflow("asking", input=Annotated[dict[str, str], AfterValidator(ask)]).pipe(looks).build()
    known(asking)
    bad = create_schedule("a-bad", asking, "0 * * * *", input={})
    good = hourly()
    schedule(CreateRun(workflow_id="asking", input={}), run_at=utc("2026-01-01 12:30"))
    schedule_is_wrong = True
    clock.move_to(utc("2026-01-01 13:00"))

    assert fire(kernel) == 1

    bad.refresh_from_db()
    assert (bad.failures, "no such table" in bad.error) == (1, True)
    assert fired(good) == [utc("2026-01-01 13:00")]
    assert ScheduledCommand.objects.get().tries == 1


@pytest.mark.django_db(transaction=True)
def test_a_change_that_lost_to_others_is_made_all_the_same(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    row = hourly()
    real, tries = ScheduleQuerySet.change, []

    def change(rows: ScheduleQuerySet, schedule: Schedule, **columns: Any) -> bool:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("database is locked")
        if len(tries) == 2:
            # Before the second try somebody has had a turn.
            Schedule.objects.update(edition=F("edition") + 1)
        return real(rows, schedule, **columns)

    monkeypatch.setattr(ScheduleQuerySet, "change", change)
    monkeypatch.setattr("workflow_engine.kernel.unit_of_work.is_conflict", lambda error: True)

    assert change_schedule(row, enabled=False)

    assert not Schedule.objects.get().enabled
