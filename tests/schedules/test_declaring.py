"""Schedules that are declared in code, and the rows that ``sync`` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks

from tests.schedules.nights import INPUT, NIGHTLY, utc
from workflow_engine import change_schedule, create_schedule, declare_schedule
from workflow_engine.definitions.schedules import schedules_override
from workflow_engine.errors import InvalidDefinition, InvalidInput
from workflow_engine.kernel import Kernel
from workflow_engine.models import Schedule
from workflow_engine.scheduling import sync_schedules

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_declared(known: Callable[..., Any]) -> Iterator[None]:
    known(NIGHTLY)
    with schedules_override():
        yield


def synced() -> dict[str, str]:
    return {one.name: one.action for one in sync_schedules()}


def test_a_declaration_becomes_a_row_and_stays_it(kernel: Kernel) -> None:
    declare_schedule("night", NIGHTLY, "30 2 * * *", timezone="Europe/Berlin", input=INPUT)

    assert (synced(), synced()) == ({"night": "created"}, {"night": "unchanged"})

    row = Schedule.objects.get()
    assert (row.name, row.workflow, row.cron, row.timezone) == ("night", "nightly", "30 2 * * *", "Europe/Berlin")
    assert (row.overlap, row.catch_up, row.declared, row.enabled) == ("skip", "one", True, True)
    assert row.next_due_at == utc("2026-01-02 01:30")


def test_what_is_changed_in_the_code_is_changed_in_the_row(kernel: Kernel) -> None:
    with schedules_override():
        declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)
        sync_schedules()
    change_schedule("night", enabled=False)
    declare_schedule("night", NIGHTLY, "30 3 * * *", input={"folder": "out"}, overlap="queue")

    assert synced() == {"night": "changed"}

    row = Schedule.objects.get()
    assert (row.cron, row.input, row.overlap) == ("30 3 * * *", {"folder": "out"}, "queue")
    # That was an operator's word.
    assert not row.enabled


def test_a_row_whose_declaration_is_gone_is_disabled_and_others_are_left_alone(kernel: Kernel) -> None:
    create_schedule("by-hand", NIGHTLY, "0 1 * * *", input=INPUT)
    with schedules_override():
        declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)
        sync_schedules()

    assert synced() == {"night": "disabled"}

    assert dict(Schedule.objects.values_list("name", "enabled")) == {"by-hand": True, "night": False}


def test_what_a_rollback_has_disabled_is_enabled_when_it_is_declared_again(kernel: Kernel) -> None:
    with schedules_override():
        declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)
        sync_schedules()
    sync_schedules()
    declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)

    assert (synced(), synced()) == ({"night": "changed"}, {"night": "unchanged"})

    row = Schedule.objects.get()
    assert (row.enabled, row.error) == (True, "")


def test_a_name_that_somebody_has_taken_by_hand_stays_theirs(kernel: Kernel) -> None:
    create_schedule("night", NIGHTLY, "0 1 * * *", input=INPUT)
    declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)

    assert synced() == {"night": "taken"}

    assert Schedule.objects.get().cron == "0 1 * * *"


def test_a_dry_run_writes_nothing(kernel: Kernel) -> None:
    declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)

    assert sync_schedules(dry_run=True)[0].action == "created"

    assert not Schedule.objects.exists()


def test_a_declaration_that_is_wrong_is_said_by_a_check_and_by_sync(kernel: Kernel) -> None:
    declare_schedule("night", NIGHTLY, "30 26 * * *", timezone="Mars", input={"copies": 2}, overlap="never")

    (error,) = [item for item in run_checks() if item.id == "workflow_engine.E013"]

    for part in ("cron: the hour '26'", "timezone: 'Mars'", "input.folder: Field required", "overlap: must be one of"):
        assert part in error.msg
    with pytest.raises(InvalidInput):
        sync_schedules()


def test_names_and_workflows_that_are_none_are_refused_at_import(kernel: Kernel) -> None:
    declare_schedule("night", NIGHTLY, "30 2 * * *", input=INPUT)

    for name, workflow, text in (
        ("night", NIGHTLY, "declared already"),
        ("Night", NIGHTLY, "lower-case words"),
        ("dusk", "nightly", "needs a built workflow"),
    ):
        with pytest.raises(InvalidDefinition, match=text):
            declare_schedule(name, workflow, "0 1 * * *")  # type: ignore[arg-type]
