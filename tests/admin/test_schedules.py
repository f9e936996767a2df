"""Schedules and scheduled commands in the admin: seen, changed and run by those who may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import list_url, page_url
from tests.schedules.nights import INPUT, NIGHTLY, utc
from workflow_engine import create_run, create_schedule, run_schedule, schedule
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CancelRun
from workflow_engine.models import Schedule, ScheduledCommand, ScheduleFire, WorkflowRun
from workflow_engine.testing import FakeClock

Staff = Callable[..., Client]
EDITOR = ("view_schedule", "add_schedule", "change_schedule", "add_workflowrun", "view_payload")
FORM = {
    "name": "night",
    "workflow": "nightly",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "input": '{"folder": "in"}',
    "overlap": "queue",
    "catch_up": "none",
    "enabled": "on",
}
ADD = "admin:workflow_engine_schedule_add"


@pytest.fixture(autouse=True)
def workflow(kernel: Kernel, known: Callable[..., Any]) -> Iterator[None]:
    known(NIGHTLY)
    yield


@pytest.fixture
def row() -> Schedule:
    return create_schedule("evening", NIGHTLY, "0 20 * * *", timezone="Europe/Berlin", input=INPUT)


def act(client: Client, action: str, *rows: Any, model: str = "schedule") -> str:
    data = {"action": action, "_selected_action": [one.pk for one in rows], "index": 0}
    return client.post(list_url(model), data, follow=True).content.decode()


def test_a_schedule_is_made_by_the_form(staff: Staff) -> None:
    client = staff(*EDITOR)

    page = client.post(reverse(ADD), FORM, follow=True)

    assert "was added successfully" in page.content.decode()
    made = Schedule.objects.get()
    assert (made.input, made.overlap, made.catch_up) == (INPUT, "queue", "none")
    assert made.next_due_at == utc("2026-01-02 01:30")
    assert made.created_by
    assert "Europe/Berlin" in client.get(list_url("schedule")).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("cron", "0 0 30 2 *", "never comes"),
        ("cron", "61 * * * *", "the minute"),
        ("timezone", "Mars", "is no time zone"),
        ("input", '{"copies": 2}', "folder: Field required"),
        ("input", "{", "Enter a valid JSON"),
        ("name", "Night shift", "lower-case words"),
        ("workflow", "gone", "Select a valid choice"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_saved(
    staff: Staff, field: str, value: str, text: str
) -> None:
    page = staff(*EDITOR).post(reverse(ADD), {**FORM, field: value})

    errors = page.context["adminform"].form.errors
    assert list(errors) == [field]
    assert text in str(errors[field])
    assert not Schedule.objects.exists()


def test_a_name_that_is_taken_is_said(staff: Staff, row: Schedule) -> None:
    page = staff(*EDITOR).post(reverse(ADD), {**FORM, "name": "evening"})

    assert "already exists" in str(page.context["adminform"].form.errors["name"])


def test_only_what_was_changed_is_changed(staff: Staff, row: Schedule) -> None:
    form = {**FORM, "name": "evening", "cron": "0 20 * * *", "overlap": "skip", "catch_up": "one"}

    page = staff(*EDITOR).post(page_url(row), {**form, "input": '{"folder": "out"}'}, follow=True)

    assert "was changed successfully" in page.content.decode()
    changed = Schedule.objects.get()
    assert (changed.input, changed.next_due_at, changed.edition) == ({"folder": "out"}, row.next_due_at, 1)


def test_the_page_shows_the_next_ten_times_and_the_runs(staff: Staff, row: Schedule, clock: FakeClock) -> None:
    run = run_schedule(row)
    clock.move_to(utc("2026-03-27 21:00"))

    page = staff(*EDITOR).get(page_url(row)).content.decode()

    for part in ("Sat 2026-03-28 20:00", "+01:00", "Sun 2026-03-29 20:00", "+02:00", "2026-03-29 18:00"):
        assert part in page
    assert "the clocks have changed" in page
    assert str(run.pk) in page
    assert page.count("<tr><td>") == 10


def test_what_stands_in_the_form_is_previewed_without_being_saved(staff: Staff, clock: FakeClock) -> None:
    clock.move_to(utc("2026-03-28 12:00"))
    client, address = staff(*EDITOR), reverse("admin:workflow_engine_schedule_preview")

    page = client.post(address, FORM).content.decode()
    wrong = client.post(address, {**FORM, "cron": "0 0 30 2 *"}).content.decode()

    assert "Sun 2026-03-29 03:00" in page
    assert "moved: the clocks leave out" in page
    assert "never comes" in wrong
    assert not Schedule.objects.exists()
    assert client.get(address).status_code == 405
    assert staff("view_workflowrun").post(address, FORM).status_code == 403


def test_who_may_only_look_changes_nothing_and_sees_no_input(staff: Staff, row: Schedule) -> None:
    client = staff("view_schedule")

    page = client.get(page_url(row))

    assert page.status_code == 200
    assert "folder" not in page.content.decode()
    assert client.post(page_url(row), FORM).status_code == 403
    assert client.post(reverse(ADD), FORM).status_code == 403
    for action in ("enable", "disable", "run_now", "delete_selected"):
        assert client.post(list_url("schedule"), {"action": action, "_selected_action": [row.pk]}).status_code == 403
    assert "folder" in staff("view_schedule", "view_payload").get(page_url(row)).content.decode()


def test_who_may_not_create_runs_makes_no_schedule(staff: Staff) -> None:
    client = staff("view_schedule", "add_schedule", "change_schedule")

    assert client.post(reverse(ADD), FORM).status_code == 403


def test_chosen_schedules_are_enabled_disabled_and_run(staff: Staff, row: Schedule) -> None:
    client = staff(*EDITOR, "run_schedule")

    assert "Disabled 1 schedule." in act(client, "disable", row)
    assert not Schedule.objects.get().enabled
    assert "Started 1 run." in act(client, "run_now", row)
    assert WorkflowRun.objects.count() == 1
    assert "Enabled 1 schedule." in act(client, "enable", row)
    assert Schedule.objects.get().enabled
    Schedule.objects.update(workflow="gone")
    assert "No workflow &#x27;gone&#x27; is registered" in act(client, "run_now", row)


def test_chosen_schedules_are_deleted_and_their_runs_stay(staff: Staff, row: Schedule) -> None:
    run_schedule(row)
    client = staff("view_schedule", "delete_schedule")
    data = {"action": "delete_selected", "_selected_action": [row.pk], "index": 0, "post": "yes"}

    assert "evening" in act(client, "delete_selected", row)
    client.post(list_url("schedule"), data)

    assert not Schedule.objects.exists()
    assert not ScheduleFire.objects.exists()
    assert WorkflowRun.objects.exists()


def test_a_run_says_which_schedule_has_started_it(staff: Staff, row: Schedule) -> None:
    run = run_schedule(row)

    page = staff("view_workflowrun", "view_schedule").get(page_url(run)).content.decode()

    assert page_url(row) in page
    assert "evening" in page


def test_schedules_are_found_by_a_part_of_their_name_or_their_id(staff: Staff, row: Schedule) -> None:
    client = staff("view_schedule")

    for term, found in (("even", True), (str(row.pk), True), ("morning", False)):
        assert ("1 schedule" in client.get(list_url("schedule"), {"q": term}).content.decode()) == found


def test_chosen_commands_are_cancelled(staff: Staff, clock: FakeClock) -> None:
    run = create_run(NIGHTLY, INPUT)
    rows = [schedule(CancelRun(run_id=run.pk), run_at=clock.now(), correlation_id=f"order-{n}") for n in (1, 2)]

    page = act(staff("view_scheduledcommand", "cancel_scheduledcommand"), "cancel", rows[0], model="scheduledcommand")

    assert "Cancelled 1 command." in page
    assert dict(ScheduledCommand.objects.values_list("correlation_id", "status")) == {
        "order-1": "CANCELLED",
        "order-2": "PENDING",
    }
    looker = staff("view_scheduledcommand")
    assert "Cancel selected" not in looker.get(list_url("scheduledcommand")).content.decode()
    assert "order-2" in looker.get(list_url("scheduledcommand"), {"q": "order-2"}).content.decode()
    assert "payload" not in looker.get(page_url(rows[1])).content.decode().lower()
