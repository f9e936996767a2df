"""Users, hostile runs and addresses of the admin."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pydantic import BaseModel

from workflow_engine import create_run
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands.beat import Beat, WorkerFacts
from workflow_engine.models import WorkflowRun

ATTACK = "<script>alert('attack')</script>"


class Note(BaseModel):
    text: str = ""
    api_key: str = ""
    fail: bool = False
    padding: str = ""


@stage("write-down", retry=Retry(max_attempts=1))
def write_down(ctx: StageContext[Note]) -> Note:
    ctx.log.warning(f"log {ATTACK}", field=f"field {ATTACK}")
    ctx.progress(50, f"progress {ATTACK}")
    ctx.annotate("quote", f"annotation {ATTACK}")
    ctx.metric("lines", 3)
    ctx.artifact("note\r\n.html", f"<p>{ATTACK}</p>", content_type="text/html")
    if ctx.input.fail:
        raise ValueError(f"error {ATTACK}")
    return ctx.input


def notes() -> Workflow[Note, Note]:
    return define_workflow("notes", name=f"Notes {ATTACK}", input=Note).pipe(write_down).build()


@pytest.fixture
def make_run(known: Callable[..., Any], host: InlineHost) -> Callable[..., WorkflowRun]:
    """Return a function that creates a run of ``notes`` and, with ``drain``, drives it to its end."""
    workflow = known(notes())

    def make(*, drain: bool = True, options: dict[str, Any] | None = None, **fields: Any) -> WorkflowRun:
        run = create_run(workflow, {"text": f"input {ATTACK}", **fields}, **(options or {}))
        if drain:
            host.drain(run.pk)
        run.refresh_from_db()
        return run

    return make


@pytest.fixture
def beat(kernel: Any) -> Any:
    """Return a function that lets a worker beat."""

    def beat(*workflows: str, running: int = 0, slots: int = 2, queues: Any = None, id: Any = None) -> uuid.UUID:
        worker = id or uuid.uuid4()
        facts = WorkerFacts(
            id=worker, name="w1", host="h", pid=1, version="1", slots=slots, workflows=workflows, queues=queues
        )
        kernel.dispatch(Beat(worker=facts, running={uuid.uuid4(): 1 for _ in range(running)}))
        return worker

    return beat


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a function that logs a staff user with the given permissions in."""

    def login(*codenames: str) -> Client:
        user = User.objects.create_user(f"staff-{'-'.join(codenames) or 'nobody'}", is_staff=True)
        permissions = Permission.objects.filter(content_type__app_label="workflow_engine", codename__in=codenames)
        user.user_permissions.set(permissions)
        assert permissions.count() == len(codenames)
        client = Client(enforce_csrf_checks=False)
        client.force_login(user)
        return client

    return login


@pytest.fixture
def chief(db: None) -> Client:
    """Return a client of a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("chief"))
    return client


def list_url(model: str) -> str:
    return reverse(f"admin:workflow_engine_{model}_changelist")


def page_url(row: Any) -> str:
    return reverse(f"admin:workflow_engine_{row._meta.model_name}_change", args=[row.pk])


def cancel_url(run: WorkflowRun) -> str:
    return reverse("admin:workflow_engine_workflowrun_cancel", args=[run.pk])
