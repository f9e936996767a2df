from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from tests.api.conftest import BASE, JSONClient, problem_of
from workflow_engine import create_run
from workflow_engine.definitions import Workflow
from workflow_engine.models import WorkflowRun

GETS = [
    "workflows/",
    "workflows/delivery/",
    "runs/",
    "runs/{run}/",
    "runs/{run}/stages/",
    "runs/{run}/logs/",
    "runs/{run}/events/",
    "runs/{run}/attempts/",
    "runs/{run}/artifacts/",
]
READ = {
    "anonymous": 403,
    "nobody": 403,
    "viewer": 200,
    "adder": 403,
    "canceller": 403,
    "rerunner": 403,
    "answerer": 403,
    "pauser": 403,
    "reader": 200,
    "all": 200,
}
PAUSE = {name: 200 if name in ("pauser", "all") else 403 for name in READ}
TABLE: dict[tuple[str, str], dict[str, int]] = {
    **{("get", address): READ for address in GETS},
    **{("head", address): READ for address in GETS},
    ("post", "runs/"): {
        "anonymous": 403,
        "nobody": 403,
        "viewer": 403,
        "adder": 201,
        "canceller": 403,
        "rerunner": 403,
        "answerer": 403,
        "pauser": 403,
        "reader": 403,
        "all": 201,
    },
    ("post", "runs/{run}/cancel/"): {
        "anonymous": 403,
        "nobody": 403,
        "viewer": 403,
        "adder": 403,
        "canceller": 200,
        "rerunner": 403,
        "answerer": 403,
        "pauser": 403,
        "reader": 403,
        "all": 200,
    },
    # Allowed, but the run has not ended.
    ("post", "runs/{run}/rerun/"): {
        "anonymous": 403,
        "nobody": 403,
        "viewer": 403,
        "adder": 403,
        "canceller": 403,
        "rerunner": 409,
        "answerer": 403,
        "pauser": 403,
        "reader": 403,
        "all": 409,
    },
    # Allowed, but the stage waits for nothing.
    ("post", "runs/{run}/stages/send/answer/"): {
        "anonymous": 403,
        "nobody": 403,
        "viewer": 403,
        "adder": 403,
        "canceller": 403,
        "rerunner": 403,
        "answerer": 409,
        "pauser": 403,
        "reader": 403,
        "all": 409,
    },
    ("post", "runs/{run}/pause/"): PAUSE,
    ("post", "runs/{run}/resume/"): PAUSE,
}
BODIES: dict[str, dict[str, Any]] = {
    "runs/": {"workflow_id": "delivery", "input": {}},
    "runs/{run}/cancel/": {},
    "runs/{run}/rerun/": {"stage_id": "pack-up"},
    "runs/{run}/stages/send/answer/": {"data": {}},
    "runs/{run}/pause/": {},
    "runs/{run}/resume/": {},
}
CASES = [
    (method, address, role, status) for (method, address), answers in TABLE.items() for role, status in answers.items()
]


@pytest.mark.parametrize(("method", "address", "role", "status"), CASES)
def test_each_role_may_do_what_the_table_says(
    method: str, address: str, role: str, status: int, workflow: Workflow[Any, Any], client_of: Callable[..., Any]
) -> None:
    run = create_run(workflow, {})
    client, place = client_of(role), address.format(run=run.pk)

    answer = client.send(place, BODIES[address]) if method == "post" else getattr(client, method)(BASE + place)

    assert answer.status_code == status
    if status == 403 and method != "head":
        assert problem_of(answer)["code"] in ("NOT_AUTHENTICATED", "PERMISSION_DENIED")


def test_the_table_names_every_endpoint() -> None:
    from workflow_engine.api.urls import urlpatterns

    named = {
        address.rstrip("/")
        .replace("{run}", "<uuid:run_id>")
        .replace("delivery", "<slug:workflow_id>")
        .replace("/send/", "/<slug:stage_id>/")
        for _, address in TABLE
    }

    assert named == {str(pattern.pattern).rstrip("/") for pattern in urlpatterns}


@pytest.mark.parametrize(
    ("method", "address"), [(method, address) for method, address in TABLE if "{run}" in address and method != "head"]
)
def test_a_run_that_does_not_exist_is_404(
    method: str, address: str, api: JSONClient, workflow: Workflow[Any, Any]
) -> None:
    place = address.format(run=uuid.uuid4())

    answer = api.send(place, BODIES[address]) if method == "post" else api.read(place)

    assert answer.status_code == 404
    assert problem_of(answer)["code"] == "RUN_NOT_FOUND"


def test_who_may_not_look_is_not_told_what_exists(client_of: Callable[..., Any], workflow: Workflow[Any, Any]) -> None:
    answer = client_of("nobody").read(f"runs/{uuid.uuid4()}/")

    assert answer.status_code == 403


def test_a_workflow_that_does_not_exist_is_404(api: JSONClient, workflow: Workflow[Any, Any]) -> None:
    answer = api.read("workflows/another/")

    assert problem_of(answer)["code"] == "WORKFLOW_NOT_FOUND"
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "trace"])
def test_other_methods_are_405(method: str, api: JSONClient, run: WorkflowRun) -> None:
    answer = getattr(api, method)(f"{BASE}runs/{run.pk}/")

    assert answer.status_code == 405
    assert problem_of(answer)["code"] == "METHOD_NOT_ALLOWED"
    run.refresh_from_db()


def test_input_and_output_are_for_holders_of_view_payload(client_of: Callable[..., Any], run: WorkflowRun) -> None:
    plain, full = (client_of(role).read(f"runs/{run.pk}/").json() for role in ("viewer", "reader"))

    assert not {"input", "output"} & set(plain)
    assert full["input"] == {"number": 7, "api_key": "••••••", "note": "", "more": None}
    assert full["output"]["number"] == 7


def test_a_session_needs_the_token_against_forged_requests(
    client_of: Callable[..., Any], workflow: Workflow[Any, Any]
) -> None:
    client = client_of("all", enforce_csrf_checks=True)

    answer = client.send("runs/", {"workflow_id": "delivery", "input": {}})

    assert answer.status_code == 403
    assert problem_of(answer)["code"] == "PERMISSION_DENIED"


def test_a_user_who_was_deactivated_is_nobody(client_of: Callable[..., Any], workflow: Workflow[Any, Any]) -> None:
    client = client_of("all")
    User.objects.update(is_active=False)

    assert client.read("runs/").status_code == 403


@override_settings(
    REST_FRAMEWORK={
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
        "DEFAULT_PARSER_CLASSES": [],
        "EXCEPTION_HANDLER": "nowhere.handler",
        "DEFAULT_VERSIONING_CLASS": "nowhere.Versioning",
        "URL_FORMAT_OVERRIDE": "kind",
        "DATETIME_FORMAT": "%Y",
        "UNICODE_JSON": False,
    }
)
def test_the_project_s_own_settings_of_the_framework_change_nothing(client_of: Any, run: Any) -> None:
    anonymous: JSONClient = client_of("anonymous")

    assert anonymous.read("runs/").status_code == 403
    body = client_of("viewer").read(f"runs/{run.pk}/?kind=xml").json()
    assert body["created_at"] == "2026-01-01T12:00:00Z"
