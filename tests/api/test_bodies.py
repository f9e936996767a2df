from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import BASE, JSONClient, problem_of
from workflow_engine.api.base import MAX_BODY_BYTES
from workflow_engine.definitions import Workflow
from workflow_engine.models import WorkflowRun

BODY = json.dumps({"workflow_id": "delivery", "input": {"note": "é"}}, ensure_ascii=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"workflow_id": NaN}',
        b'{"input": Infinity}',
        b'{"input": -Infinity}',
        b'{"input": 1e999}',
        b'{"input": ' + b"9" * 5000 + b"}",
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"input": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b"{'workflow_id': 1}",
        b'{"workflow_id": "delivery"} trailing',
        b'"\\ud83d',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_hostile_json_is_refused_with_a_problem(content: Any, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", content)

    # An empty body is no body: the fields are missing then.
    assert answer.status_code == (422 if not content else 400)
    assert problem_of(answer)["code"] in ("PARSE_ERROR", "INVALID_BODY")
    assert not WorkflowRun.objects.exists()


@pytest.mark.parametrize("content", [b"[1]", b'"x"', b"5", b"null"])
def test_a_body_that_is_no_object_is_told_so_in_the_words_of_json(content: bytes, api: JSONClient) -> None:
    problem = problem_of(api.send("runs/", content))

    assert [(item["pointer"], item["detail"]) for item in problem["errors"]] == [("", "Input should be an object")]


@pytest.mark.parametrize("levels", [65, 200, 800])
def test_an_input_that_nests_too_deeply_is_refused(levels: int, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    content = b'{"workflow_id": "delivery", "input": {"more": ' + b"[" * levels + b"]" * levels + b"}}"

    answer = api.send("runs/", content)

    assert answer.status_code in (400, 422)
    assert problem_of(answer)


def test_metadata_that_nests_deeper_than_columns_may_is_refused(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    content = b'{"workflow_id": "delivery", "input": {}, "metadata": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}"

    assert api.send("runs/", content).status_code == 422


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "utf-7", "nonsense", '"'])
def test_the_charset_of_the_content_type_means_nothing(
    charset: str, api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    answer = api.send("runs/?a=%C3%A9", BODY.encode(), content_type=f"application/json; charset={charset}")

    assert answer.status_code == 201
    assert WorkflowRun.objects.get().get_input()["note"] == "é"


def test_the_charset_does_not_touch_filters_either(api: JSONClient, run: WorkflowRun) -> None:
    answer = api.read("runs/?status=COMPLETED", CONTENT_TYPE="text/plain; charset=utf-16")

    assert len(answer.json()["results"]) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "nonsense", ""])
def test_other_kinds_of_content_are_415(kind: str, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", BODY.encode(), content_type=kind)

    assert answer.status_code == 415
    assert problem_of(answer)["code"] == "UNSUPPORTED_MEDIA_TYPE"


def test_a_form_of_several_parts_is_415(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    assert api.post(f"{BASE}runs/", {"workflow_id": "delivery"}).status_code == 415


def test_a_body_above_the_limit_is_413(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", b'{"workflow_id": "' + b"x" * MAX_BODY_BYTES + b'"}')

    assert (answer.status_code, problem_of(answer)["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", ["-1", "nonsense", "99999999999999999999"])
def test_a_length_that_lies_does_no_harm(length: str, api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.send("runs/", BODY.encode(), CONTENT_LENGTH=length)

    assert answer.status_code in (400, 413, 422)


def test_an_answer_is_json_whatever_the_client_accepts(api: JSONClient, run: WorkflowRun) -> None:
    answer = api.read(f"runs/{run.pk}/", headers={"Accept": "text/html"})

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer["Cache-Control"] == "private, no-store"
