"""Many runs by one request, and changes of many runs in the background."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import JSONClient, pointers, problem_of
from workflow_engine import create_run
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CarryOutBulk
from workflow_engine.models import BulkOperation, RunData, WorkflowRun
from workflow_engine.testing import FakeClock

ITEM = {"workflow_id": "delivery", "input": {"number": 1}}
OPERATIONS = "bulk-operations/"


def test_every_item_has_a_result_of_its_own(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    items: list[Any] = [
        ITEM,
        {**ITEM, "workflow_id": "nope"},
        {**ITEM, "priority": 11},
        {**ITEM, "input": {"number": "x"}},
        {**ITEM, "config": {"pack-up": {"speed": "x"}}},
        {**ITEM, "metadata": {"a": "\x00"}},
        {**ITEM, "colour": "red"},
        7,
        {**ITEM, "idempotency_key": "k"},
        {**ITEM, "idempotency_key": "k"},
        {**ITEM, "idempotency_key": "k", "priority": 1},
    ]

    answer = api.send("runs/bulk/", {"items": items})

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [201, 422, 422, 422, 422, 422, 422, 422, 201, 200, 422]
    first = WorkflowRun.objects.get(pk=results[0]["run"]["run_id"])
    assert (first.status, results[0]["run"]["workflow_id"]) == ("PENDING", "delivery")
    assert results[9]["run"]["run_id"] == results[8]["run"]["run_id"]
    problems = [one["problem"] for one in results if "problem" in one]
    assert all({"type", "title", "status", "detail", "code"} <= set(problem) for problem in problems)
    assert [[error["pointer"] for error in problem.get("errors", [])] for problem in problems] == [
        ["/workflow_id"],
        ["/priority"],
        ["/input/number"],
        ["/config/pack-up/speed"],
        ["/metadata/a"],
        ["/colour"],
        [""],
        [],
    ]
    assert problems[-1]["code"] == "IDEMPOTENCY_CONFLICT"
    assert WorkflowRun.objects.count() == 2
    assert set(RunData.objects.values_list("created_by", flat=True)) == {"all"}


def test_the_keys_of_two_users_never_meet(client_of: Callable[..., JSONClient], workflow: Workflow[Any, Any]) -> None:
    body = {"items": [{**ITEM, "idempotency_key": "k"}]}

    results = [client_of(role).send("runs/bulk/", body).json()["results"][0] for role in ("all", "adder", "all")]

    assert [one["status"] for one in results] == [201, 201, 200]
    assert results[0]["run"]["run_id"] == results[2]["run"]["run_id"]


@pytest.mark.parametrize("items", [[], [ITEM] * 501, None, "x"])
def test_a_number_of_items_that_does_not_fit_is_422(api: JSONClient, workflow: Workflow[Any, Any], items: Any) -> None:
    answer = api.send("runs/bulk/", {"items": items})

    assert list(pointers(answer)) == ["/items"]
    assert not WorkflowRun.objects.exists()


def test_runs_are_chosen_by_a_filter_and_cancelled_in_the_background(
    api: JSONClient, workflow: Workflow[Any, Any], kernel: Kernel, clock: FakeClock
) -> None:
    old = [create_run(workflow, {}) for _ in range(3)]
    clock.advance(timedelta(hours=1))
    limit = clock.now()
    clock.advance(timedelta(hours=1))
    create_run(workflow, {})

    answer = api.send(
        OPERATIONS,
        {
            "action": "cancel",
            "filter": {"workflow": ["delivery"], "status": "PENDING", "created_before": limit.isoformat()},
            "reason": "wrong file",
        },
    )

    body = answer.json()
    assert (answer.status_code, body["action"], body["status"], body["total"]) == (202, "cancel", "PENDING", 3)
    assert (body["reason"], body["actor"], body["done"]) == ("wrong file", "all", 0)
    assert answer["Location"].endswith(f"/{OPERATIONS}{body['operation_id']}/")
    kernel.dispatch(CarryOutBulk())
    after = api.read(f"{OPERATIONS}{body['operation_id']}/").json()
    assert (after["status"], after["done"], after["changed"], after["failures"]) == ("COMPLETED", 3, 3, [])
    assert set(WorkflowRun.objects.filter(status="CANCELLED")) == set(old)


def test_runs_are_rerun_by_their_ids_and_failures_are_told(
    api: JSONClient, workflow: Workflow[Any, Any], host: InlineHost, kernel: Kernel
) -> None:
    ended, fresh = create_run(workflow, {}), create_run(workflow, {})
    host.drain(ended.pk)

    body = api.send(
        OPERATIONS,
        {
            "action": "rerun",
            "filter": {"ids": [str(ended.pk), str(fresh.pk)]},
            "stage": "send",
        },
    ).json()
    kernel.dispatch(CarryOutBulk())

    after = api.read(f"{OPERATIONS}{body['operation_id']}/").json()
    assert (after["stage"], after["changed"], after["failed"]) == ("send", 1, 1)
    (failure,) = after["failures"]
    assert failure["run_id"] == str(fresh.pk)
    assert "is PENDING: only a run that" in failure["message"]


def test_an_operation_is_stopped_once(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    create_run(workflow, {})
    body = api.send(OPERATIONS, {"action": "pause", "filter": {"status": ["PENDING", "RUNNING"]}}).json()

    answers = [api.send(f"{OPERATIONS}{body['operation_id']}/cancel/").json() for _ in range(2)]

    assert answers == [{"cancelled": True, "status": "CANCELLED"}, {"cancelled": False, "status": "CANCELLED"}]


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"action": "delete", "filter": {"workflow": "delivery"}}, ["/action"]),
    ({"action": "cancel"}, ["/filter"]),
    ({"action": "cancel", "filter": {}}, ["/filter"]),
    ({"action": "cancel", "filter": {"colour": "red"}}, ["/filter/colour"]),
    ({"action": "cancel", "filter": {"ids": []}}, ["/filter/ids"]),
    ({"action": "cancel", "filter": {"ids": ["x"]}}, ["/filter/ids/0"]),
    ({"action": "cancel", "filter": {"created_before": "2026-01-01T00:00:00"}}, ["/filter/created_before"]),
    ({"action": "cancel", "filter": {"workflow": "a\x00"}}, ["/filter/workflow/0"]),
    ({"action": "cancel", "filter": {"workflow": "a"}, "stage": "send"}, ["/stage"]),
    ({"action": "pause", "filter": {"workflow": "a"}, "config": {}}, ["/config"]),
    ({"action": "cancel", "filter": {"workflow": "a"}, "reason": "\x00"}, ["/reason"]),
    ({"action": "rerun", "filter": {"workflow": "a"}}, ["/stage"]),
    ({"action": "rerun", "filter": {"workflow": "a"}, "stage": "send", "reason": "x"}, ["/reason"]),
    (
        {"action": "rerun", "filter": {"workflow": "a"}, "stage": "send", "config": {"send": {"a": "\x00"}}},
        ["/config/send/a"],
    ),
]


@pytest.mark.parametrize(("body", "wrong"), BAD)
def test_a_body_that_does_not_fit_is_422_and_names_the_field(
    api: JSONClient, workflow: Workflow[Any, Any], body: dict[str, Any], wrong: list[str]
) -> None:
    answer = api.send(OPERATIONS, body)

    assert answer.status_code == 422
    assert list(pointers(answer)) == wrong
    assert not BulkOperation.objects.exists()


def test_a_status_that_does_not_exist_is_named(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send(OPERATIONS, {"action": "cancel", "filter": {"status": "DONE"}})

    assert all(pointer.startswith("/filter/status") for pointer in pointers(answer))


def test_foreign_ids_are_404(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    run = create_run(workflow, {})
    nobody = uuid.uuid4()

    chosen = api.send(OPERATIONS, {"action": "cancel", "filter": {"ids": [str(run.pk), str(nobody)]}})
    looked, stopped = api.read(f"{OPERATIONS}{nobody}/"), api.send(f"{OPERATIONS}{nobody}/cancel/")

    assert (chosen.status_code, problem_of(chosen)["code"]) == (404, "RUN_NOT_FOUND")
    assert str(nobody) in problem_of(chosen)["detail"]
    for answer in (looked, stopped):
        assert (answer.status_code, problem_of(answer)["code"]) == (404, "BULK_OPERATION_NOT_FOUND")
    assert not BulkOperation.objects.exists()


def test_a_key_makes_one_operation_and_another_filter_is_a_conflict(
    api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    create_run(workflow, {})
    body = {"action": "rerun", "filter": {"workflow": "delivery"}, "stage": "send"}
    header = {"HTTP_IDEMPOTENCY_KEY": '"monday"'}

    answers = [api.send(OPERATIONS, body, **header) for _ in range(2)]
    other = api.send(OPERATIONS, {**body, "filter": {"status": "FAILED"}}, **header)

    assert answers[0].json()["operation_id"] == answers[1].json()["operation_id"]
    assert [answer.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert (other.status_code, problem_of(other)["code"]) == (422, "IDEMPOTENCY_CONFLICT")
    assert BulkOperation.objects.count() == 1


def test_who_may_look_but_not_cancel_cannot_cancel_many(
    client_of: Callable[..., JSONClient], workflow: Workflow[Any, Any]
) -> None:
    create_run(workflow, {})
    body = {"filter": {"workflow": "delivery"}}

    statuses = {
        action: client_of("bulk-canceller").send(OPERATIONS, {"action": action, **body, **more}).status_code
        for action, more in (("cancel", {}), ("pause", {}), ("resume", {}), ("rerun", {"stage": "send"}))
    }

    assert statuses == {"cancel": 202, "pause": 403, "resume": 403, "rerun": 403}
