"""``schedules/`` and ``scheduled-commands/``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import JSONClient, pointers, problem_of
from workflow_engine import create_run, create_schedule, schedule
from workflow_engine.definitions import Workflow
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CancelRun, CreateRun
from workflow_engine.models import Schedule, ScheduledCommand, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
NEW = {
    "name": "night",
    "workflow_id": "delivery",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "input": {"number": 7, "api_key": "hush"},
    "overlap": "queue",
    "catch_up": "none",
}


@pytest.fixture
def row(workflow: Workflow[Any, Any]) -> Schedule:
    return create_schedule("evening", workflow, "0 20 * * *", input={"number": 1})


def test_a_schedule_is_made_shown_and_listed(api: JSONClient, row: Schedule) -> None:
    made = api.send("schedules/", NEW)

    assert made.status_code == 201
    shown = api.get(made["Location"]).json()
    assert shown == made.json()
    masked = {**NEW, "input": {"number": 7, "api_key": "••••••"}}
    assert {name: shown[name] for name in NEW} == masked
    assert Schedule.objects.get(name="night").input == NEW["input"]
    assert (shown["enabled"], shown["created_by"], shown["next_due_at"]) == (True, "all", "2026-01-02T01:30:00Z")
    assert shown["next"][0] == {"at": "2026-01-02T01:30:00Z", "local": "2026-01-02T02:30:00+01:00", "notes": []}
    assert len(shown["next"]) == 10
    listed = api.read("schedules/").json()["results"]
    assert [item["name"] for item in listed] == ["night", "evening"]
    assert not any("input" in item for item in listed)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"cron": "0 0 30 2 *"}, "/cron"),
        ({"cron": 7}, "/cron"),
        ({"timezone": "Mars"}, "/timezone"),
        ({"workflow_id": "deliveryy"}, "/workflow_id"),
        ({"input": {"number": "x"}}, "/input/number"),
        ({"input": {"note": "a\0b"}}, "/input/note"),
        ({"overlap": "never"}, "/overlap"),
        ({"catch_up": "some"}, "/catch_up"),
        ({"name": "Night shift"}, "/name"),
        ({"name": "evening"}, "/name"),
        ({"enabled": "yes"}, "/enabled"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    api: JSONClient, row: Schedule, change: dict[str, Any], pointer: str
) -> None:
    for place, method, body in (("schedules/", "POST", {**NEW, **change}), (f"schedules/{row.pk}/", "PATCH", change)):
        if method == "PATCH" and change == {"name": "evening"}:
            continue
        answer = api.send(place, body, method=method)

        assert answer.status_code == 422
        assert list(pointers(answer)) == [pointer]
    assert Schedule.objects.count() == 1
    assert Schedule.objects.get().changed_at == row.changed_at


def test_only_what_is_named_is_changed(api: JSONClient, row: Schedule) -> None:
    answer = api.send(f"schedules/{row.pk}/", {"cron": "0 21 * * *", "enabled": False}, method="PATCH")

    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["cron"], changed["enabled"], changed["input"]) == ("0 21 * * *", False, {"number": 1})
    assert (changed["next_due_at"], changed["next"]) == (None, [])
    assert api.send(f"schedules/{row.pk}/", {"input": {"number": 2}}, method="PATCH").json()["input"] == {"number": 2}


def test_a_schedule_is_deleted(api: JSONClient, row: Schedule) -> None:
    assert api.send(f"schedules/{row.pk}/", method="DELETE", body={}).status_code == 204

    assert problem_of(api.read(f"schedules/{row.pk}/"))["code"] == "SCHEDULE_NOT_FOUND"


def test_a_run_is_started_now(api: JSONClient, row: Schedule) -> None:
    answer = api.send(f"schedules/{row.pk}/run/", {})

    run = WorkflowRun.objects.get()
    assert (answer.status_code, answer.json()) == (201, {"run_id": str(run.pk)})
    assert answer["Location"].endswith(f"/runs/{run.pk}/")
    assert run.data.created_by == "all"


def test_times_are_shown_before_they_are_saved(api: JSONClient, kernel: Kernel) -> None:
    shown = api.read("schedules/preview/", {"cron": "0 * * * *", "timezone": "Asia/Kolkata", "count": 2}).json()

    assert [one["local"] for one in shown["next"]] == ["2026-01-01T18:00:00+05:30", "2026-01-01T19:00:00+05:30"]
    assert list(pointers(api.read("schedules/preview/", {"cron": "x", "timezone": "y"}))) == ["/timezone", "/cron"]
    assert list(pointers(api.read("schedules/preview/"))) == ["/cron"]
    assert api.read("schedules/preview/", {"cron": "0 * * * *", "count": 1001}).status_code == 400


def test_the_times_of_one_are_shown(api: JSONClient, row: Schedule) -> None:
    assert len(api.read(f"schedules/{row.pk}/next/", {"count": 3}).json()["next"]) == 3


def test_one_whose_expression_is_wrong_by_now_can_be_seen_and_mended(api: JSONClient, row: Schedule) -> None:
    Schedule.objects.update(cron="0 0 30 2 *")

    assert "never comes" in api.read(f"schedules/{row.pk}/").json()["error"]
    assert api.send(f"schedules/{row.pk}/", {"cron": "0 1 * * *"}, method="PATCH").json()["error"] == ""


def test_inputs_are_for_holders_of_view_payload(client_of: Callable[..., Any], row: Schedule) -> None:
    assert "input" not in client_of("watcher").read(f"schedules/{row.pk}/").json()


@pytest.mark.parametrize(
    ("method", "place"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "next/"), ("POST", "run/")]
)
def test_a_schedule_that_does_not_exist_is_404(api: JSONClient, method: str, place: str) -> None:
    answer = api.send(f"schedules/{uuid.uuid4()}/{place}", {}, method=method)

    assert problem_of(answer)["code"] == "SCHEDULE_NOT_FOUND"
    assert answer.status_code == 404


def test_commands_are_listed_and_cancelled(
    api: JSONClient, client_of: Callable[..., Any], workflow: Workflow[Any, Any], clock: FakeClock
) -> None:
    run = create_run(workflow, {})
    first = schedule(CancelRun(run_id=run.pk), run_at=clock.now(), correlation_id="order-7", actor="ada")
    create = CreateRun(workflow_id="delivery", input={"api_key": "hush"})
    second = schedule(create, run_at=clock.now())

    listed = api.read("scheduled-commands/").json()["results"]
    assert [item["command"] for item in listed] == ["run.create", "run.cancel"]
    assert listed[0]["payload"]["input"] == {"api_key": "••••••"}
    assert listed[1]["correlation_id"] == "order-7"
    assert "payload" not in client_of("waiter").read("scheduled-commands/").json()["results"][0]
    cancelled = [api.send(f"scheduled-commands/{second.pk}/cancel/", {}).json()["cancelled"] for _ in range(2)]
    assert cancelled == [True, False]

    def ids(**query: str) -> list[str]:
        return [item["command_id"] for item in api.read("scheduled-commands/", query).json()["results"]]

    assert ids(status="PENDING") == ids(correlation_id="order-7") == [str(first.pk)]
    assert ids(correlation_id="\0") == []
    assert api.read("scheduled-commands/", {"status": "GONE"}).status_code == 400
    assert api.send(f"scheduled-commands/{uuid.uuid4()}/cancel/", {}).status_code == 404
    assert ScheduledCommand.objects.get(pk=second.pk).status == "CANCELLED"
