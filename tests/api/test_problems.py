from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import DataError, OperationalError, ProgrammingError
from django.http import Http404
from rest_framework.exceptions import Throttled

from workflow_engine import errors
from workflow_engine.api.problems import InvalidBody, handle
from workflow_engine.errors import FieldError


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.WorkflowNotFound("x"), 404, "WORKFLOW_NOT_FOUND"),
        (errors.RunNotFound("x"), 404, "RUN_NOT_FOUND"),
        (errors.StageNotFound("w", "s"), 404, "STAGE_NOT_FOUND"),
        (errors.InvalidInput("w", []), 422, "INVALID_INPUT"),
        (errors.InvalidConfig("w", []), 422, "INVALID_CONFIG"),
        (errors.InvalidPayload("a", "b"), 422, "INVALID_PAYLOAD"),
        (errors.PayloadTooLarge("input", 2, 1), 413, "PAYLOAD_TOO_LARGE"),
        (errors.InvalidTransition(), 409, "INVALID_TRANSITION"),
        (errors.StaleLease(), 409, "STALE_LEASE"),
        (errors.IdempotencyConflict("c"), 422, "IDEMPOTENCY_CONFLICT"),
        (errors.IdempotencyInProgress("c", 1), 409, "IDEMPOTENCY_IN_PROGRESS"),
        (errors.DatabaseConflict(), 503, "DATABASE_CONFLICT"),
        (errors.DatabaseUnavailable("host db-7"), 503, "DATABASE_UNAVAILABLE"),
        (OperationalError("server closed the connection"), 503, "DATABASE_UNAVAILABLE"),
        (DataError("value too long: SECRET"), 422, "INVALID_PAYLOAD"),
        (Http404("SECRET"), 404, "NOT_FOUND"),
        (Throttled(wait=3), 429, "THROTTLED"),
    ],
)
def test_each_error_has_its_status_and_code(error: Any, status: int, code: str) -> None:
    answer = handle(error, {})

    assert answer is not None
    assert (answer.status_code, answer.data["code"], answer.content_type) == (status, code, "application/problem+json")
    assert "SECRET" not in json.dumps(answer.data)
    assert "db-7" not in json.dumps(answer.data)


@pytest.mark.parametrize(
    "error", [errors.IdempotencyInProgress("c", 1), errors.DatabaseUnavailable(), Throttled(wait=3)]
)
def test_what_may_work_later_says_when_to_try_again(error: Any) -> None:
    answer = handle(error, {})

    assert answer is not None
    assert int(answer["Retry-After"]) >= 1


@pytest.mark.parametrize("error", [KeyError("x"), ProgrammingError("x"), errors.WorkflowEngineError("x")])
def test_a_fault_of_ours_is_left_to_django(error: Any) -> None:
    assert handle(error, {}) is None


def test_paths_become_json_pointers() -> None:
    answer = handle(InvalidBody([FieldError("input.a/b.c~d.0", "m"), FieldError("", "m")]), {})

    assert answer is not None
    assert [item["pointer"] for item in answer.data["errors"]] == ["/input/a~1b/c~0d/0", ""]
