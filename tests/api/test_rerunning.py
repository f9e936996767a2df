from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.conftest import JSONClient, pointers, problem_of
from tests.reruns import fresh
from workflow_engine import create_run
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun


def address(run: WorkflowRun, query: str = "") -> str:
    return f"runs/{run.pk}/rerun/{query}"


def test_a_run_goes_on_from_the_stage(api: JSONClient, run: WorkflowRun, host: InlineHost) -> None:
    answer = api.send(address(run), {"stage_id": "pack-up", "config": {"pack-up": {"speed": 9}}})
    host.drain()

    body = answer.json()
    assert answer.status_code == 200
    assert (body["run_id"], body["status"], body["generation"]) == (str(run.pk), "RUNNING", 1)
    assert body["superseded"] == ["pack-up", "send"]
    assert fresh(run).data.config == {"pack-up": {"speed": 9}}
    assert run.events.get(type="run.rerun").payload["actor"] == "all"
    assert fresh(run).status == "COMPLETED"


def test_a_preview_says_what_would_be_done_and_does_nothing(api: JSONClient, run: WorkflowRun) -> None:
    answer = api.send(address(run, "?preview=true"), {"stage_id": "send"})

    assert answer.json() == {
        "run_id": str(run.pk),
        "stage_id": "send",
        "generation": 1,
        "kept": [{"stage_id": "pack-up", "group": 1, "status": "COMPLETED"}],
        "again": [{"stage_id": "send", "group": 2, "status": "COMPLETED"}],
        "refused": [],
        "only_failed_items": False,
        "items_again": None,
    }
    assert fresh(run).generation == 0


@pytest.mark.parametrize("query", ["?preview", "?preview=yes", "?preview=1"])
def test_what_may_be_meant_as_a_preview_is_no_rerun(api: JSONClient, run: WorkflowRun, query: str) -> None:
    answer = api.send(address(run, query), {"stage_id": "send"})

    assert (answer.status_code, fresh(run).generation) == (400, 0)


def test_the_same_key_does_nothing_more(api: JSONClient, run: WorkflowRun, host: InlineHost) -> None:
    first = api.send(address(run), {"stage_id": "send"}, headers={"Idempotency-Key": '"one"'})
    host.drain()
    second = api.send(address(run), {"stage_id": "send"}, headers={"Idempotency-Key": '"one"'})
    other = api.send(address(run), {"stage_id": "pack-up"}, headers={"Idempotency-Key": '"one"'})

    assert "Idempotency-Replayed" not in first
    assert (second.status_code, second["Idempotency-Replayed"]) == (200, "true")
    assert (second.json()["generation"], second.json()["superseded"]) == (1, ["send"])
    assert problem_of(other)["code"] == "IDEMPOTENCY_CONFLICT"
    assert fresh(run).generation == 1


@pytest.mark.parametrize("query", ["", "?preview=true"])
def test_what_is_wrong_with_the_body_is_told_by_its_place(api: JSONClient, run: WorkflowRun, query: str) -> None:
    send: Any = lambda body: api.send(address(run, query), body)  # noqa: E731

    unknown = send({"stage_id": "<middle>"})
    assert (unknown.status_code, problem_of(unknown)["code"]) == (422, "STAGE_NOT_FOUND")
    assert pointers(unknown) == {"/stage_id": "unknown"}
    assert "middle" not in unknown.content.decode()
    config = send({"stage_id": "pack-up", "config": {"pack-up": {"speed": "fast"}}})
    assert pointers(config) == {"/config/pack-up/speed": "int_parsing"}
    assert set(pointers(send({"stage_id": "send", "config": {"pack-up": {}}}))) == {"/config/pack-up"}
    assert set(pointers(send({}))) == {"/stage_id"}
    assert set(pointers(send({"stage_id": "send", "from": 1}))) == {"/from"}
    assert set(pointers(send({"stage_id": "send", "config": {"send": {"a": "\x00"}}}))) == {"/config/send/a"}
    assert fresh(run).generation == 0


def test_a_run_that_has_not_ended_is_a_conflict(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    open_run = create_run(workflow, {})

    answer = api.send(address(open_run), {"stage_id": "pack-up"})

    assert (answer.status_code, problem_of(answer)["code"]) == (409, "INVALID_TRANSITION")


def test_a_run_that_does_not_exist_is_404(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send(f"runs/{uuid.uuid4()}/rerun/", {"stage_id": "pack-up"})

    assert problem_of(answer)["code"] == "RUN_NOT_FOUND"


def test_lists_show_what_counts(api: JSONClient, run: WorkflowRun, host: InlineHost) -> None:
    api.send(address(run), {"stage_id": "pack-up"})
    host.drain()

    stages = api.read(f"runs/{run.pk}/stages/").json()["results"]
    artifacts = api.read(f"runs/{run.pk}/artifacts/").json()["results"]
    attempts = api.read(f"runs/{run.pk}/attempts/").json()["results"]
    detail = api.read(f"runs/{run.pk}/").json()

    assert [(one["stage_id"], one["generation"]) for one in stages] == [("pack-up", 1), ("send", 1)]
    assert [one["stage_id"] for one in artifacts] == ["pack-up"]
    assert [one["generation"] for one in attempts] == [0, 0, 1, 1]
    assert (detail["status"], detail["generation"], detail["output"]["number"]) == ("COMPLETED", 1, 7)
    assert len(detail["stages"]) == 2
