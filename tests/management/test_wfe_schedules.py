"""``wfe_schedules``: what is shown, and what is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.management.calling import call
from tests.schedules.nights import INPUT, NIGHTLY, fire, utc
from workflow_engine import create_schedule, declare_schedule
from workflow_engine.definitions.schedules import schedules_override
from workflow_engine.kernel import Kernel
from workflow_engine.models import Schedule, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def schedule(kernel: Kernel, known: Callable[..., Any]) -> Iterator[Schedule]:
    known(NIGHTLY)
    with schedules_override():
        yield create_schedule("night", NIGHTLY, "30 2 * * *", timezone="Europe/Berlin", input=INPUT)


def test_it_lists_schedules_with_their_next_times(schedule: Schedule) -> None:
    shown, data = call("wfe_schedules"), call("wfe_schedules", "list", "--json").json

    assert shown.lines[1].split() == [
        "night", "nightly", *["30", "2", "*", "*", "*"], "Europe/Berlin", "2026-01-02", "01:30:00", "-", "enabled",
    ]  # fmt: skip
    assert data["schedules"][0]["next_due_at"] == "2026-01-02T01:30:00Z"
    assert "input" not in data["schedules"][0]


def test_without_any_it_says_so(schedule: Schedule) -> None:
    Schedule.objects.all().delete()

    assert call("wfe_schedules").lines == ["There are no schedules."]


def test_one_that_is_wrong_is_seen_in_the_list(kernel: Kernel, clock: FakeClock) -> None:
    Schedule.objects.update(workflow="gone")
    clock.move_to(utc("2026-01-02 01:30"))
    fire(kernel)

    assert call("wfe_schedules").lines[1].split()[-1] == "error"


def test_next_shows_the_nights_on_which_clocks_change(clock: FakeClock) -> None:
    clock.move_to(utc("2026-03-28 12:00"))

    shown = call("wfe_schedules", "next", "night", "--count", "2")

    assert shown.lines[1:] == [
        "Sun 2026-03-29 03:00 +02:00  2026-03-29 01:00  moved: the clocks leave its time out; the clocks have changed",
        "Mon 2026-03-30 02:30 +02:00  2026-03-30 00:30",
    ]


def test_next_shows_an_expression_that_nobody_has_saved_yet() -> None:
    data = call(
        "wfe_schedules", "next", "--cron", "0 0 29 2 *", "--timezone", "Asia/Tokyo", "--count", "1", "--json"
    ).json

    assert data["next"] == [{"at": "2028-02-28T15:00:00Z", "local": "2028-02-29T00:00:00+09:00", "notes": []}]
    wrong = call("wfe_schedules", "next", "--cron", "0 0 30 2 *")
    assert (wrong.code, "never comes" in wrong.error) == (2, True)


def test_it_enables_and_disables(schedule: Schedule) -> None:
    assert call("wfe_schedules", "disable", "night").lines == ["night is disabled; next: -"]
    assert not Schedule.objects.get().enabled
    assert call("wfe_schedules", "enable", str(schedule.pk), "--json").json["enabled"] is True


def test_it_runs_one_now(schedule: Schedule) -> None:
    called = call("wfe_schedules", "run-now", "night", "--json")

    run = WorkflowRun.objects.get()
    assert called.json == {"run_id": str(run.pk)}
    assert run.metadata["schedule"]["name"] == "night"


def test_it_makes_rows_of_what_the_code_declares() -> None:
    declare_schedule("dawn", NIGHTLY, "0 5 * * *", input=INPUT)

    assert call("wfe_schedules", "sync", "--dry-run").lines == ["dawn: created"]
    assert Schedule.objects.count() == 1
    assert call("wfe_schedules", "sync", "--json").json["schedules"] == [{"name": "dawn", "action": "created"}]
    assert Schedule.objects.count() == 2
    declare_schedule("night", NIGHTLY, "0 5 * * *", input=INPUT)
    assert call("wfe_schedules", "sync").code == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["enable"], 2),
        (["list", "night"], 2),
        (["next"], 2),
        (["next", "night", "--cron", "* * * * *"], 2),
        (["run-now", "dusk"], 3),
        (["enable", "dusk"], 3),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], code: int) -> None:
    assert call("wfe_schedules", *arguments).code == code
