from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.api.conftest import JSONClient, delivery, problem_of
from tests.workflows import fan
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.models import WorkflowLog, WorkflowRun
from workflow_engine.testing import FakeClock


def test_workflows_are_listed_and_described(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    entry = api.read("workflows/").json()["results"][0]
    detail = api.get(entry["url"]).json()

    assert (entry["workflow_id"], entry["stages"]) == ("delivery", ["pack-up", "send"])
    assert detail["input_schema"]["properties"]["number"]["type"] == "integer"
    assert detail["config_schema"]["pack-up"]["properties"]["speed"]["default"] == 1
    assert detail["output_schema"]["title"] == "Order"
    assert set(detail["stage_output_schemas"]) == {"pack-up", "send"}
    assert [[item["stage_id"] for item in group["stages"]] for group in detail["groups"]] == [["pack-up"], ["send"]]
    assert detail["plan"] == workflow.plan()


def test_a_run_is_shown_with_its_stages(api: JSONClient, run: WorkflowRun) -> None:
    body = api.read(f"runs/{run.pk}/").json()

    assert (body["run_id"], body["workflow_id"], body["status"]) == (str(run.pk), "delivery", "COMPLETED")
    assert body["waiting"] == ""
    assert [(item["stage_id"], item["status"], item["group"]) for item in body["stages"]] == [
        ("pack-up", "COMPLETED", 1),
        ("send", "COMPLETED", 2),
    ]
    assert not {"id", "workflow", "rank_at", "event_seq"} & set(body)


def test_a_run_says_why_it_waits(api: JSONClient, workflow: Workflow[Any, Any], clock: FakeClock) -> None:
    run = create_run(workflow, {}, run_at=clock.now() + timedelta(hours=1))

    assert api.read(f"runs/{run.pk}/").json()["waiting"] == "Not due before 2026-01-01 13:00:00 UTC."


def test_the_output_of_several_last_stages_is_a_mapping(
    api: JSONClient, known: Callable[..., Any], kernel: Kernel, host: InlineHost
) -> None:
    from tests.workflows import Number, add_stage
    from workflow_engine.definitions import define_workflow

    ends = known(define_workflow("ends", input=Number).parallel(add_stage("plus-a"), add_stage("plus-b")).build())
    run = create_run(ends, {"value": 1})
    host.drain(run.pk)

    assert api.read(f"runs/{run.pk}/").json()["output"] == {"plus_a": {"value": 2}, "plus_b": {"value": 2}}


def test_a_value_in_the_blob_store_is_loaded_up_to_a_megabyte(
    api: JSONClient, workflow: Workflow[Any, Any], host: InlineHost
) -> None:
    small = create_run(workflow, {"note": "x" * 100_000})
    large = create_run(workflow, {"note": "x" * 2_000_000})

    shown, named = (api.read(f"runs/{run.pk}/").json()["input"] for run in (small, large))

    assert len(shown["note"]) == 100_000
    assert set(named) == {"$blob", "size"}


def test_a_value_that_is_missing_from_the_blob_store_is_no_fault(
    api: JSONClient, workflow: Workflow[Any, Any], kernel: Kernel
) -> None:
    run = create_run(workflow, {"note": "x" * 100_000})
    kernel.ports.blobs.delete(run.data.input["blob"])

    assert api.read(f"runs/{run.pk}/").json()["input"]["error"] == "BLOB_NOT_FOUND"


def test_the_stages_attempts_and_artifacts_of_a_run_are_listed(api: JSONClient, run: WorkflowRun) -> None:
    stages, attempts, artifacts = (
        api.read(f"runs/{run.pk}/{part}/").json()["results"] for part in ("stages", "attempts", "artifacts")
    )

    assert [item["stage_id"] for item in stages] == ["pack-up", "send"]
    assert [(item["stage_id"], item["outcome"]) for item in attempts] == [
        ("pack-up", "completed"),
        ("send", "completed"),
    ]
    assert [(item["name"], item["size"]) for item in artifacts] == [("label.txt", 7)]
    assert "key" not in artifacts[0]
    assert "token" not in stages[0]


def test_the_error_of_an_attempt_is_told(api: JSONClient, workflow: Workflow[Any, Any], host: InlineHost) -> None:
    run = create_run(workflow, {"number": -1})
    host.drain(run.pk)

    attempt = api.read(f"runs/{run.pk}/attempts/").json()["results"][0]

    assert (attempt["error_class"], attempt["error_message"]) == ("ValueError", "a negative order")
    assert api.read(f"runs/{run.pk}/").json()["error"]["stage"] == "pack-up"


def test_log_lines_are_read_in_order_and_filtered(api: JSONClient, run: WorkflowRun) -> None:
    every = api.read(f"runs/{run.pk}/logs/").json()["results"]
    errors = api.read(f"runs/{run.pk}/logs/", {"level": "ERROR"}).json()["results"]
    none = api.read(f"runs/{run.pk}/logs/", {"stage": "send"}).json()["results"]

    assert [(item["level"], item["message"]) for item in every] == [("INFO", "packing"), ("ERROR", "torn paper")]
    assert every[0]["fields"] == {"api_key": "••••••"}
    assert [item["message"] for item in errors] == ["torn paper"]
    assert none == []


def test_log_lines_continue_where_the_last_answer_ended(api: JSONClient, run: WorkflowRun) -> None:
    WorkflowLog.objects.bulk_create(
        WorkflowLog(run=run, level="INFO", message=str(number), created_at=run.created_at) for number in range(5)
    )
    first = api.read(f"runs/{run.pk}/logs/", {"limit": 3}).json()

    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()
    last = api.read(f"runs/{run.pk}/logs/", {"after": third["after"]}).json()

    assert [len(page["results"]) for page in (first, second, third, last)] == [3, 3, 1, 0]
    assert third["next"] is None
    assert last["after"] == third["after"]


def test_events_are_read_after_a_sequence(api: JSONClient, run: WorkflowRun) -> None:
    every = api.read(f"runs/{run.pk}/events/").json()["results"]
    rest = api.read(f"runs/{run.pk}/events/", {"after": 2}).json()["results"]

    assert [item["sequence"] for item in every] == list(range(1, len(every) + 1))
    assert (every[0]["type"], every[-1]["type"]) == ("run.created", "run.completed")
    assert rest == every[2:]
    assert rest[0]["payload"]["token"] == 1


@pytest.mark.parametrize("part", ["logs", "events", "attempts"])
@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=", "after=9223372036854775808", "limit=1001", "after=%00", "after=%C2%B2"]
)
def test_a_number_that_is_none_is_400(part: str, query: Any, api: JSONClient, run: WorkflowRun) -> None:
    answer = api.read(f"runs/{run.pk}/{part}/?{query}")

    assert answer.status_code == 400
    assert problem_of(answer)


def test_runs_come_newest_first_page_by_page(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    runs = [str(create_run(workflow, {}).pk) for _ in range(5)]

    first = api.read("runs/", {"limit": 2}).json()
    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()

    seen = [item["run_id"] for page in (first, second, third) for item in page["results"]]
    assert seen == runs[::-1]
    assert third["next"] is None
    assert api.get(third["previous"]).json()["results"] == second["results"]


def test_runs_are_filtered_by_workflow_and_several_statuses(
    api: JSONClient, known: Callable[..., Any], kernel: Kernel, host: InlineHost
) -> None:
    known(delivery(), fan(2))
    done, cancelled, other = (create_run(name, {"number": 1, "value": 1}) for name in ("delivery", "delivery", "fan"))
    host.drain(done.pk)
    cancel_run(cancelled)

    def found(query: str) -> set[str]:
        return {item["run_id"] for item in api.read(f"runs/?{query}").json()["results"]}

    assert found("workflow=delivery") == {str(done.pk), str(cancelled.pk)}
    assert (
        found("status=COMPLETED,CANCELLED") == found("status=COMPLETED&status=CANCELLED") == found("workflow=delivery")
    )
    assert found("workflow=fan&status=PENDING") == {str(other.pk)}
    assert found("workflow=unknown") == found("workflow=%00") == set()


@pytest.mark.parametrize(
    "query",
    [
        "status=SECRET",
        "status=%00",
        "cursor=nonsense",
        "cursor=" + base64.b64encode(urlencode({"p": "SECRET"}).encode()).decode(),
        "cursor=" + base64.b64encode(urlencode({"p": "\x00"}).encode()).decode(),
    ],
)
def test_a_filter_or_cursor_that_is_none_is_refused(query: Any, api: JSONClient, run: WorkflowRun) -> None:
    answer = api.read(f"runs/?{query}")

    assert answer.status_code in (400, 404)
    assert "SECRET" not in answer.content.decode()
    assert problem_of(answer)


def test_a_page_size_that_is_none_is_the_usual_one(api: JSONClient, run: WorkflowRun) -> None:
    assert api.read("runs/", {"limit": "x"}).status_code == 200


def test_lists_ask_the_database_as_often_for_many_rows_as_for_one(
    api: JSONClient, workflow: Workflow[Any, Any], host: InlineHost
) -> None:
    create_run(workflow, {})
    api.read("runs/")
    with CaptureQueriesContext(connection) as one:
        api.read("runs/")
    for _ in range(5):
        create_run(workflow, {})

    with CaptureQueriesContext(connection) as many:
        api.read("runs/")

    assert len(many) == len(one)
