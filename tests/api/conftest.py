"""Users by role, a small workflow, and a client that speaks JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pydantic import BaseModel

from workflow_engine import create_run
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

ROLES: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "viewer": ("view_workflowrun",),
    "adder": ("add_workflowrun",),
    "canceller": ("cancel_workflowrun",),
    "rerunner": ("rerun_workflowrun",),
    "answerer": ("answer_stagerun",),
    "pauser": ("pause_workflowrun",),
    "postmaster": ("view_deadletter",),
    "replayer": ("replay_deadletter",),
    "follower": ("view_bulkoperation",),
    "watcher": ("view_schedule",),
    "planner": ("add_schedule",),
    "editor": ("change_schedule",),
    "remover": ("delete_schedule",),
    "trigger": ("run_schedule",),
    "waiter": ("view_scheduledcommand",),
    "stopper": ("cancel_scheduledcommand",),
    "bulk-canceller": ("view_workflowrun", "cancel_workflowrun", "view_bulkoperation"),
    "reader": ("view_workflowrun", "view_payload"),
    "listener": ("view_webhookendpoint", "view_webhookdelivery"),
    "listener-adder": ("add_webhookendpoint",),
    "listener-changer": ("change_webhookendpoint",),
    "listener-deleter": ("delete_webhookendpoint",),
    "all": (
        "view_workflowrun",
        "add_workflowrun",
        "cancel_workflowrun",
        "rerun_workflowrun",
        "answer_stagerun",
        "pause_workflowrun",
        "view_payload",
        "view_bulkoperation",
        "view_deadletter",
        "replay_deadletter",
        "view_schedule",
        "add_schedule",
        "change_schedule",
        "delete_schedule",
        "run_schedule",
        "view_scheduledcommand",
        "cancel_scheduledcommand",
        "view_webhookendpoint",
        "add_webhookendpoint",
        "change_webhookendpoint",
        "delete_webhookendpoint",
        "view_webhookdelivery",
    ),
}
BASE = "/workflows/"


class Order(BaseModel):
    number: int = 1
    api_key: str = ""
    note: str = ""
    more: Any = None


class Courier(BaseModel):
    speed: int = 1


@stage("pack-up", retry=Retry(max_attempts=1))
def pack_up(ctx: StageContext[Order, Courier]) -> Order:
    ctx.log.info("packing", api_key="hush")
    ctx.log.error("torn paper")
    ctx.artifact("label.txt", "to Jane", content_type="text/plain")
    if ctx.input.number < 0:
        raise ValueError("a negative order")
    return ctx.input


@stage("send")
def send(ctx: StageContext[Order]) -> Order:
    return ctx.input


def delivery() -> Workflow[Order, Order]:
    return define_workflow("delivery", name="Delivery", input=Order).pipe(pack_up).pipe(send).build()


class JSONClient(Client):
    """Sends bodies as JSON and reads addresses below the API's own."""

    def send(self, address: str, body: Any = None, *, method: str = "POST", **options: Any) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        options.setdefault("content_type", "application/json")
        # Not post(), which encodes the content by the charset of its type.
        return self.generic(method, BASE + address, content, **options)

    def read(self, address: str, query: Any = None, **options: Any) -> Any:
        return self.get(BASE + address, query, **options)


@pytest.fixture
def client_of(db: None) -> Callable[..., JSONClient]:
    """Return a function that gives a client of a role, ``anonymous`` included."""

    def make(role: str, **options: Any) -> JSONClient:
        client = JSONClient(**options)
        if role != "anonymous":
            user, _ = User.objects.get_or_create(username=role)
            wanted = Permission.objects.filter(content_type__app_label="workflow_engine", codename__in=ROLES[role])
            user.user_permissions.set(wanted)
            client.force_login(user)
        return client

    return make


@pytest.fixture
def api(client_of: Callable[..., JSONClient]) -> JSONClient:
    """Return a client that may do everything."""
    return client_of("all")


@pytest.fixture
def workflow(known: Callable[..., Any], kernel: Any) -> Workflow[Order, Order]:
    workflow: Workflow[Order, Order] = known(delivery())
    return workflow


@pytest.fixture
def run(workflow: Workflow[Order, Order], host: InlineHost) -> WorkflowRun:
    """Return a run that has ended."""
    run = create_run(workflow, {"number": 7, "api_key": "hush"})
    host.drain(run.pk)
    run.refresh_from_db()
    return run


def problem_of(answer: Any) -> dict[str, Any]:
    """Return the problem document of an answer, once checked to be one."""
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.content)
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert body["status"] == answer.status_code
    return body


def pointers(answer: Any) -> dict[str, str]:
    """Return what is wrong with which part of the body."""
    return {item["pointer"]: item["code"] for item in problem_of(answer)["errors"]}
