from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.conftest import BASE, JSONClient, pointers, problem_of
from workflow_engine.definitions import Workflow
from workflow_engine.models import IdempotencyKey, WorkflowRun
from workflow_engine.testing import FakeClock

BODY = {"workflow_id": "delivery", "input": {"number": 3}}


def test_a_run_is_created_and_its_address_told(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", {**BODY, "priority": 9, "metadata": {"a": 1}, "config": {"pack-up": {"speed": 5}}})

    body = answer.json()
    run = WorkflowRun.objects.get(pk=body["run_id"])
    assert answer.status_code == 201
    assert urlsplit(answer["Location"]).path == f"{BASE}runs/{run.pk}/"
    assert api.get(answer["Location"]).json()["run_id"] == str(run.pk)
    assert (run.priority, run.metadata, run.data.config["pack-up"]) == (9, {"a": 1}, {"speed": 5})
    assert (run.data.created_by, run.get_input()["number"]) == ("all", 3)
    assert (body["workflow_id"], body["status"]) == ("delivery", "PENDING")
    assert "input" not in body


def test_a_run_may_be_for_later(api: JSONClient, workflow: Workflow[Any, Any], clock: FakeClock) -> None:
    later = clock.now() + timedelta(days=1)

    answer = api.send("runs/", {**BODY, "run_at": later.isoformat()})

    assert answer.json()["due_at"] == "2026-01-02T12:00:00Z"


@pytest.mark.parametrize("second", ['"order 1"', "order 1"])
def test_the_same_key_gives_the_same_run(second: str, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    first = api.send("runs/", BODY, headers={"Idempotency-Key": '"order 1"'})

    again = api.send("runs/", BODY, headers={"Idempotency-Key": second})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["run_id"] == first.json()["run_id"]
    assert (again["Idempotency-Replayed"], again["Location"]) == ("true", first["Location"])
    assert "Idempotency-Replayed" not in first
    assert WorkflowRun.objects.count() == 1


def test_keys_of_two_users_have_nothing_to_do_with_each_other(
    client_of: Callable[..., Any], workflow: Workflow[Any, Any]
) -> None:
    answers = [client_of(role).send("runs/", BODY, headers={"Idempotency-Key": "k"}) for role in ("all", "adder")]

    assert [answer.status_code for answer in answers] == [201, 201]


def test_the_same_key_with_other_content_is_refused(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    api.send("runs/", BODY, headers={"Idempotency-Key": "k"})

    answer = api.send("runs/", {**BODY, "priority": 1}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, problem_of(answer)["code"]) == (422, "IDEMPOTENCY_CONFLICT")


def test_a_key_whose_run_is_gone_is_404(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    api.send("runs/", BODY, headers={"Idempotency-Key": "k"})
    WorkflowRun.objects.all().delete()

    answer = api.send("runs/", BODY, headers={"Idempotency-Key": "k"})

    assert IdempotencyKey.objects.exists()
    assert (answer.status_code, problem_of(answer)["code"]) == (404, "RUN_NOT_FOUND")


@pytest.mark.parametrize("key", ["", '""', "k" * 256])
def test_a_key_of_a_wrong_length_is_refused(key: str, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", BODY, headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert not WorkflowRun.objects.exists()


def test_every_wrong_field_of_the_input_is_named_and_no_value_repeated(
    api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    answer = api.send("runs/", {**BODY, "input": {"number": "SECRET", "note": ["SECRET"]}})

    assert answer.status_code == 422
    assert problem_of(answer)["code"] == "INVALID_INPUT"
    assert pointers(answer) == {"/input/number": "int_parsing", "/input/note": "string_type"}
    assert "SECRET" not in answer.content.decode()


def test_every_wrong_field_of_the_config_is_named(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    config = {"pack-up": {"speed": "SECRET", "colour": 1}, "nowhere": {}}

    answer = api.send("runs/", {**BODY, "config": config})

    assert (answer.status_code, problem_of(answer)["code"]) == (422, "INVALID_CONFIG")
    assert set(pointers(answer)) == {"/config/pack-up/speed", "/config/pack-up/colour", "/config/nowhere"}
    assert "SECRET" not in answer.content.decode()


def test_an_unknown_workflow_is_refused(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", {"workflow_id": "SECRET"})

    assert (answer.status_code, pointers(answer)) == (422, {"/workflow_id": "unknown"})
    assert problem_of(answer)["code"] == "WORKFLOW_NOT_FOUND"
    assert "SECRET" not in answer.content.decode()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"colour": "SECRET"}, "/colour"),
        ({"workflow_id": 5}, "/workflow_id"),
        ({"priority": 11}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"metadata": ["SECRET"]}, "/metadata"),
        ({"metadata": {"a": "SECRET\x00"}}, "/metadata/a"),
        ({"metadata": {"a": "\ud800"}}, "/metadata/a"),
        ({"annotations": {"k" * 201: 1}}, None),
        ({"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        ({"run_at": "0001-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "9999-12-31T23:59:59Z"}, "/run_at"),
        ({"run_at": 10**30}, "/run_at"),
        ({"config": "SECRET"}, "/config"),
        ({"config": {"pack-up": 5}}, "/config/pack-up"),
        ({"input": {"note": "SECRET\x00"}}, "/input/note"),
        ({"input": {"note": "\udfff"}}, "/input/note"),
        ({"input": None}, "/input"),
        ({"\ud800": 1}, ""),
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_the_name_of_the_field(
    change: Any, pointer: Any, api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    answer = api.send("runs/", {**BODY, **change})

    assert answer.status_code == 422
    assert pointer is None or pointer in pointers(answer)
    assert "SECRET" not in answer.content.decode()
    assert not WorkflowRun.objects.exists()


@pytest.mark.parametrize("body", [[], None, 5, "text", {}])
def test_a_body_that_is_no_object_or_lacks_the_workflow_is_refused(
    body: Any, api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    assert api.send("runs/", body).status_code == 422


def test_a_thousand_mistakes_make_a_short_answer(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", {**BODY, **{f"key-{number}": 1 for number in range(1000)}})

    assert len(json.loads(answer.content)["errors"]) == 100


def test_a_run_is_cancelled_with_a_reason(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    run_id = api.send("runs/", BODY).json()["run_id"]

    first, second = (api.send(f"runs/{run_id}/cancel/", body) for body in ({"reason": "ordered twice"}, {}))

    run = WorkflowRun.objects.get(pk=run_id)
    assert first.json() == {"cancelled": True, "status": "CANCELLED"}
    assert second.json() == {"cancelled": False, "status": "CANCELLED"}
    assert run.data.cancel_reason == "ordered twice"


def test_a_run_is_cancelled_without_a_body(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    run_id = api.send("runs/", BODY).json()["run_id"]

    assert api.post(f"{BASE}runs/{run_id}/cancel/", content_type="application/json").status_code == 200


@pytest.mark.parametrize("body", [{"reason": 5}, {"reason": "a\x00"}, {"reason": "a" * 2001}, {"why": "x"}, []])
def test_a_reason_that_does_not_fit_is_refused(body: Any, api: JSONClient, run: WorkflowRun) -> None:
    assert api.send(f"runs/{run.pk}/cancel/", body).status_code == 422
