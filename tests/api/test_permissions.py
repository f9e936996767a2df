from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from tests.api.conftest import BASE, JSONClient, problem_of
from workflow_engine import cancel_runs, create_run, create_schedule, schedule
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.kernel.commands import CancelRun, CreateWebhook
from workflow_engine.models import WorkflowRun

GETS = [
    "workflows/",
    "workflows/delivery/",
    "runs/",
    "runs/{run}/",
    "runs/{run}/stages/",
    "runs/{run}/stages/send/items/",
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
FOLLOW = {
    name: 200 if name in ("follower", "bulk-canceller", "all") else 403
    for name in (*READ, "follower", "bulk-canceller")
}
CANCEL_MANY = {name: 200 if name in ("bulk-canceller", "all") else 403 for name in FOLLOW}
# Allowed, but the stage has no items.
ITEM = {name: 404 if status == 200 else status for name, status in READ.items()}
PAUSE = {name: 200 if name in ("pauser", "all") else 403 for name in READ}
LISTENERS = (*READ, "listener", "listener-adder", "listener-changer", "listener-deleter")


def of_webhooks(role: str, allowed: int = 200) -> dict[str, int]:
    return {name: allowed if name in (role, "all") else 403 for name in LISTENERS}


TABLE: dict[tuple[str, str], dict[str, int]] = {
    **{("get", address): READ for address in GETS},
    **{("head", address): READ for address in GETS},
    ("get", "runs/{run}/stages/send/items/0/"): ITEM,
    ("head", "runs/{run}/stages/send/items/0/"): ITEM,
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
    ("get", "dead-letters/"): {**READ, "viewer": 403, "reader": 403, "postmaster": 200, "replayer": 403},
    ("post", "dead-letters/replay/"): {
        name: 202 if name in ("replayer", "all") else 403 for name in (*READ, "postmaster", "replayer")
    },
    ("post", "runs/{run}/pause/"): PAUSE,
    ("post", "runs/{run}/resume/"): PAUSE,
    ("post", "runs/bulk/"): {name: 200 if name in ("adder", "all") else 403 for name in READ},
    ("post", "bulk-operations/"): {name: 202 if status == 200 else 403 for name, status in CANCEL_MANY.items()},
    ("get", "bulk-operations/{operation}/"): FOLLOW,
    ("post", "bulk-operations/{operation}/cancel/"): CANCEL_MANY,
    ("get", "webhooks/"): of_webhooks("listener"),
    ("post", "webhooks/"): of_webhooks("listener-adder", 201),
    ("get", "webhooks/{webhook}/"): of_webhooks("listener"),
    ("patch", "webhooks/{webhook}/"): of_webhooks("listener-changer"),
    ("delete", "webhooks/{webhook}/"): of_webhooks("listener-deleter", 204),
    ("post", "webhooks/{webhook}/test/"): of_webhooks("listener-changer"),
    ("post", "webhooks/{webhook}/rotate/"): of_webhooks("listener-changer"),
    ("get", "webhooks/{webhook}/deliveries/"): of_webhooks("listener"),
}
SCHEDULERS = (*READ, "watcher", "planner", "editor", "remover", "trigger", "waiter", "stopper")


def only(role: str, status: int) -> dict[str, int]:
    """Return the answers of what one role may do, and whoever may do everything."""
    return {name: status if name in (role, "all") else 403 for name in SCHEDULERS}


# Who makes or changes schedules makes runs: that needs its permission too.
TABLE |= {
    ("get", "schedules/"): only("watcher", 200),
    ("post", "schedules/"): only("all", 201),
    ("get", "schedules/preview/"): only("watcher", 200),
    ("get", "schedules/{schedule}/"): only("watcher", 200),
    ("patch", "schedules/{schedule}/"): only("all", 200),
    ("delete", "schedules/{schedule}/"): only("remover", 204),
    ("get", "schedules/{schedule}/next/"): only("watcher", 200),
    ("post", "schedules/{schedule}/run/"): only("trigger", 201),
    ("get", "scheduled-commands/"): only("waiter", 200),
    ("post", "scheduled-commands/{command}/cancel/"): only("stopper", 200),
}
BODIES: dict[str, dict[str, Any]] = {
    "runs/": {"workflow_id": "delivery", "input": {}},
    "runs/{run}/cancel/": {},
    "runs/{run}/rerun/": {"stage_id": "pack-up"},
    "runs/{run}/stages/send/answer/": {"data": {}},
    "runs/{run}/pause/": {},
    "dead-letters/replay/": {},
    "runs/{run}/resume/": {},
    "runs/bulk/": {"items": [{"workflow_id": "delivery", "input": {}}]},
    "bulk-operations/": {"action": "cancel", "filter": {"workflow": "delivery"}},
    "bulk-operations/{operation}/cancel/": {},
    "webhooks/": {"url": "https://hooks.example.com/"},
    "webhooks/{webhook}/": {"active": False},
    "webhooks/{webhook}/test/": {},
    "webhooks/{webhook}/rotate/": {},
}
NEW_SCHEDULE = {"name": "night", "workflow_id": "delivery", "cron": "0 1 * * *", "input": {}}
BODIES |= {"schedules/": NEW_SCHEDULE, "schedules/{schedule}/": {}, "schedules/{schedule}/run/": {}}
BODIES |= {"scheduled-commands/{command}/cancel/": {}}
CASES = [
    (method, address, role, status) for (method, address), answers in TABLE.items() for role, status in answers.items()
]


@pytest.mark.one_database
@pytest.mark.parametrize(("method", "address", "role", "status"), CASES)
def test_each_role_may_do_what_the_table_says(
    method: str, address: str, role: str, status: int, workflow: Workflow[Any, Any], client_of: Callable[..., Any]
) -> None:
    run = create_run(workflow, {})
    operation = cancel_runs([run]) if "{operation}" in address else None
    row = create_schedule("evening", workflow, "0 20 * * *", input={}) if "{schedule}" in address else None
    command = schedule(CancelRun(run_id=run.pk), run_at=run.created_at) if "{command}" in address else None
    others = {"operation": operation, "schedule": row, "command": command}
    webhook = get_kernel().dispatch(CreateWebhook(url="https://hooks.example.com/")) if "{webhook}" in address else None
    ids = {name: one and one.pk for name, one in others.items()}
    place = address.format(run=run.pk, webhook=webhook and webhook.endpoint_id, **ids)
    client = client_of(role)

    if method in ("post", "patch") or ("{schedule}" in address and method == "delete"):
        answer = client.send(place, BODIES[address], method=method.upper())
    else:
        answer = getattr(client, method)(BASE + place, {"cron": "0 1 * * *"} if "preview" in place else None)

    assert answer.status_code == status
    if status == 403 and method != "head":
        assert problem_of(answer)["code"] in ("NOT_AUTHENTICATED", "PERMISSION_DENIED")


def test_the_table_names_every_endpoint() -> None:
    from workflow_engine.api.urls import urlpatterns

    named = {
        address.rstrip("/")
        .replace("{run}", "<uuid:run_id>")
        .replace("{operation}", "<uuid:operation_id>")
        .replace("{schedule}", "<uuid:schedule_id>")
        .replace("{command}", "<uuid:command_id>")
        .replace("{webhook}", "<uuid:endpoint_id>")
        .replace("delivery", "<slug:workflow_id>")
        .replace("/send/", "/<slug:stage_id>/")
        .replace("/items/0", "/items/<int:item>")
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
