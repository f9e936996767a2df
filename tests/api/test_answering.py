from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import JSONClient, pointers, problem_of
from tests.waits import MANAGER, batch, gifts, purchase, questionnaire, reminder
from workflow_engine import Completion, cancel_run, create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

YES = {"outcome": "approved", "note": "fine"}


@pytest.fixture
def waiting(known: Callable[..., Any], host: InlineHost) -> WorkflowRun:
    """Return a run that waits for the manager, and after that for the board."""
    run = create_run(known(purchase()), {"amount": 20_000})
    host.drain()
    return run


def place(run: WorkflowRun, stage_id: str = "approve") -> str:
    return f"runs/{run.pk}/stages/{stage_id}/answer/"


def row_of(run: WorkflowRun, stage_id: str = "approve") -> StageRun:
    return StageRun.objects.get(run=run, stage=stage_id)


def test_an_answer_lets_the_stage_go_on_in_the_name_of_the_user(
    waiting: WorkflowRun, host: InlineHost, api: JSONClient
) -> None:
    answer = api.send(place(waiting), {"data": YES})
    again = api.send(place(waiting), {"data": YES, "wait": "manager", "item": None})
    host.drain()

    memo = StageMemo.objects.get()
    assert (answer.status_code, answer.json()) == (200, {"answered": True, "wait": "manager"})
    assert "Idempotency-Replayed" not in answer
    assert (memo.actor, memo.get_value()) == ("all", YES)
    assert (again.status_code, problem_of(again)["code"]) == (409, "ALREADY_ANSWERED")
    assert row_of(waiting).wait_name == "board"


def test_the_same_key_answers_once(waiting: WorkflowRun, host: InlineHost, api: JSONClient) -> None:
    answers = [api.send(place(waiting), {"data": YES}, headers={"Idempotency-Key": '"a 1"'}) for _ in range(2)]
    host.drain()
    late = api.send(place(waiting), {"data": YES}, headers={"Idempotency-Key": "a 1"})

    assert [answer.status_code for answer in (*answers, late)] == [200, 200, 200]
    assert [answer.json()["answered"] for answer in (*answers, late)] == [True, False, False]
    assert [answer.get("Idempotency-Replayed") for answer in (*answers, late)] == [None, "true", "true"]
    assert StageMemo.objects.count() == 1


def test_the_same_key_with_another_answer_is_refused_and_that_of_another_user_is_another_key(
    waiting: WorkflowRun, api: JSONClient, client_of: Callable[..., Any]
) -> None:
    key = {"Idempotency-Key": "k"}
    api.send(place(waiting), {"data": YES}, headers=key)

    other = api.send(place(waiting), {"data": {"outcome": "rejected"}}, headers=key)
    stranger = client_of("answerer").send(place(waiting), {"data": YES}, headers=key)

    assert (other.status_code, problem_of(other)["code"]) == (422, "IDEMPOTENCY_CONFLICT")
    assert (stranger.status_code, problem_of(stranger)["code"]) == (409, "ALREADY_ANSWERED")


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        ({"outcome": "hush"}, {"/data/outcome": "literal_error"}),
        ({"note": 3}, {"/data/outcome": "missing", "/data/note": "string_type"}),
        ("hush", {"/data": "model_type"}),
        ({"outcome": "approved", "note": "a\x00b"}, {"/data/note": "not_storable"}),
        (None, {"/data": "model_type"}),
    ],
)
def test_an_answer_that_does_not_fit_moves_nothing_and_names_every_field(
    data: Any, errors: dict[str, str], waiting: WorkflowRun, api: JSONClient
) -> None:
    answer = api.send(place(waiting), {"data": data})

    assert answer.status_code == 422
    assert pointers(answer) == errors
    assert "hush" not in answer.content.decode()
    assert (row_of(waiting).status, StageMemo.objects.exists()) == ("SUSPENDED", False)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"/data": "missing"}),
        ({"data": YES, "item": -1}, {"/item": "greater_than_equal"}),
        ({"data": YES, "item": 2**31}, {"/item": "less_than_equal"}),
        ({"data": YES, "item": True}, {"/item": "int_type"}),
        ({"data": YES, "wait": "<script>"}, {"/wait": "string_pattern_mismatch"}),
        ({"data": YES, "wait": 1}, {"/wait": "string_type"}),
        ({"data": YES, "why": 1}, {"/why": "extra_forbidden"}),
        ([], {"": "model_type"}),
    ],
)
def test_a_body_that_does_not_fit_is_refused(
    body: Any, errors: dict[str, str], waiting: WorkflowRun, api: JSONClient
) -> None:
    answer = api.send(place(waiting), body)

    assert answer.status_code == 422
    assert pointers(answer) == errors


def test_a_stage_that_waits_for_something_else_is_409(waiting: WorkflowRun, api: JSONClient) -> None:
    answers = [
        api.send(place(waiting), {"data": True, "wait": "board"}),
        api.send(place(waiting), {"data": YES, "item": 0}),
        api.send(place(waiting, "weigh"), {"data": YES}),
        api.send(place(waiting, "buy"), {"data": YES}),
    ]

    assert [(answer.status_code, problem_of(answer)["code"]) for answer in answers] == [(409, "NOT_WAITING")] * 4


def test_a_run_that_has_ended_waits_for_nothing(waiting: WorkflowRun, api: JSONClient) -> None:
    cancel_run(waiting)

    answer = api.send(place(waiting), {"data": YES})

    assert (answer.status_code, problem_of(answer)["code"]) == (409, "NOT_WAITING")


def test_an_unknown_run_or_stage_is_404(waiting: WorkflowRun, api: JSONClient) -> None:
    run = api.send(f"runs/{uuid.uuid4()}/stages/approve/answer/", {"data": YES})
    stage = api.send(place(waiting, "hush"), {"data": YES})

    assert (run.status_code, problem_of(run)["code"]) == (404, "RUN_NOT_FOUND")
    assert (stage.status_code, problem_of(stage)["code"]) == (404, "STAGE_NOT_FOUND")
    assert "hush" not in stage.content.decode()


def test_code_that_does_not_know_the_run_s_workflow_answers_nothing(waiting: WorkflowRun, api: JSONClient) -> None:
    with registry_override():
        answer = api.send(place(waiting), {"data": YES})
        shown = api.read(f"runs/{waiting.pk}/").json()["stages"][1]["suspended"]

    assert (answer.status_code, problem_of(answer)["code"]) == (409, "NOT_WAITING")
    assert (shown["wait"], shown["answer"]) == ("manager", None)


def test_a_suspended_stage_shows_what_it_waits_for_and_the_schema_of_the_answer(
    waiting: WorkflowRun, api: JSONClient
) -> None:
    detail = api.read(f"runs/{waiting.pk}/").json()
    listed = api.read(f"runs/{waiting.pk}/stages/").json()["results"]

    assert detail["waiting"] == "Stage approve waits for the answer 'manager' until 2026-01-04 12:00:00 UTC."
    assert detail["stages"][0]["suspended"] is None
    assert [stage["when"] for stage in detail["stages"]] == [None, "weigh.amount > 100"]
    assert detail["stages"][1]["suspended"] == {
        "waits_for": "answer",
        "wait": "manager",
        "suspended_at": "2026-01-01T12:00:00Z",
        "wake_at": "2026-01-04T12:00:00Z",
        "wait_until": "2026-01-04T12:00:00Z",
        "polls": 0,
        "check_errors": 0,
        "error": None,
        "answer": MANAGER.as_json(),
        "child_run": None,
    }
    assert listed[1]["suspended"] == detail["stages"][1]["suspended"]


def test_an_answer_without_limit_has_no_times(known: Callable[..., Any], host: InlineHost, api: JSONClient) -> None:
    run = create_run(known(questionnaire()))
    host.drain()

    shown = api.read(f"runs/{run.pk}/").json()["stages"][0]["suspended"]

    assert (shown["wake_at"], shown["wait_until"]) == (None, None)
    assert shown["answer"]["schema"]["required"] == ["text", "count", "price", "yes", "kind", "day"]


def test_timers_and_checks_are_shown(
    known: Callable[..., Any], host: InlineHost, api: JSONClient, clock: FakeClock
) -> None:
    def away() -> Completion[str]:
        raise ConnectionError("no route")

    runs = [create_run(known(workflow)) for workflow in (reminder(), batch(away))]
    host.drain()
    clock.advance(timedelta(seconds=30))
    host.drain()

    timer, check = (api.read(f"runs/{run.pk}/").json()["stages"][0]["suspended"] for run in runs)

    assert (timer["waits_for"], timer["wait"], timer["wake_at"]) == ("timer", "a-month", "2026-01-31T12:00:00Z")
    assert (check["waits_for"], check["wait"], check["answer"]) == ("poll", None, None)
    assert (check["polls"], check["check_errors"], check["error"]["message"]) == (1, 1, "no route")
    kinds = [item["kind"] for item in api.read(f"runs/{runs[1].pk}/attempts/").json()["results"]]
    assert kinds == ["body", "check"]


def test_a_skipped_stage_shows_its_condition(known: Callable[..., Any], host: InlineHost, api: JSONClient) -> None:
    run = create_run(known(purchase()), {"amount": 1})
    host.drain()

    shown = api.read(f"runs/{run.pk}/stages/").json()["results"][1]

    assert (shown["status"], shown["when"], shown["suspended"]) == ("SKIPPED", "weigh.amount > 100", None)


def test_the_output_of_a_run_whose_last_stage_was_skipped_is_that_of_the_one_before(
    known: Callable[..., Any], host: InlineHost, api: JSONClient
) -> None:
    run = create_run(known(gifts()), {"amount": 1})
    host.drain()
    run.refresh_from_db()

    assert api.read(f"runs/{run.pk}/").json()["output"] == run.get_output() == {"amount": 1}


def test_a_workflow_lists_waits_conditions_and_limits(known: Callable[..., Any], kernel: Any, api: JSONClient) -> None:
    known(purchase())

    body = api.read("workflows/purchase/").json()

    first, second = body["groups"][0]["stages"][0], body["groups"][1]["stages"][0]
    assert (first["waits"], first["when"], body["groups"][0]["fail_fast"], body["timeout"]) == ([], None, False, None)
    assert second["when"] == "weigh.amount > 100"
    assert second["waits"][0] == MANAGER.as_json()
    assert [wait["name"] for wait in second["waits"]] == ["manager", "board"]
    assert second["waits"][1]["has_default"] is True
