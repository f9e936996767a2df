"""No table has a row that cannot be read: by the ORM, in the admin, by the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site

from tests.limits.workflows import by_tenant, per_minute
from tests.webhooks.sending import Sent, endpoint, webhook_kernel
from workflow_engine import cancel_run, cancel_runs, create_run, create_schedule, pause_queue, schedule
from workflow_engine.bootstrap import use_kernel
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, CancelRun, FireSchedules, FlushOutbox, WorkerFacts
from workflow_engine.kernel.ports import WebhookAnswer
from workflow_engine.models import (
    BulkOperation,
    RunData,
    Schedule,
    StageRun,
    WebhookEndpoint,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock

from .reading import read_api, read_rows, read_run, reader

pytestmark = pytest.mark.django_db(transaction=True)
# What every database keeps, and a page, a path or a log may stumble over.
TEXT = "<script>alert(1)</script> %s \u202e'; \x01 😀 {{ x }}"
PRINTABLE = "".join(letter for letter in TEXT if letter.isprintable())


@stage("note", retry=Retry(max_attempts=1))
def note(ctx: StageContext[str]) -> str:
    ctx.log.info(TEXT, field=TEXT)
    ctx.progress(50, TEXT, detail=TEXT)
    ctx.annotate(TEXT, {TEXT: TEXT}, emit_event=True)
    ctx.artifact(TEXT, TEXT.encode())
    ctx.metric(TEXT, 1)
    ctx.once("step", lambda: TEXT)
    if ctx.input == "child":
        ctx.sleep(timedelta(days=1))
    return ctx.input


@stage("fail", retry=Retry(max_attempts=1))
def fail(ctx: StageContext[Any]) -> None:
    raise ValueError(TEXT)


@stage("start")
def start(ctx: StageContext[Any]) -> str:
    return ctx.run_child(NOTES, "child")


NOTES = define_workflow("notes", name=TEXT, input=str).pipe(note).pipe(fail).build()
MAPPED = define_workflow("mapped", input=list[str]).map(note, on_item_error="collect").build()
PARENT = define_workflow("parent").pipe(start).build()


@pytest.fixture
def kernel(clock: FakeClock, known: Any) -> Iterator[Kernel]:
    known(NOTES, MAPPED, PARENT, by_tenant(1, rate=per_minute(5)))
    sender = Sent(lambda headers: WebhookAnswer(status=500, body=TEXT.encode(), error=TEXT))
    with use_kernel(webhook_kernel(sender, clock=clock, webhook_max_attempts=1)) as kernel:
        yield kernel


def write_every_table(kernel: Kernel, clock: FakeClock) -> None:
    host = InlineHost(kernel)
    endpoint(kernel, description=TEXT, actor=TEXT)
    failing = create_run(NOTES, TEXT, metadata={TEXT: TEXT}, actor=TEXT, idempotency_key=TEXT)
    create_run(MAPPED, [TEXT, ""])
    create_run("limited", {"tenant": PRINTABLE})
    create_run("limited", {"tenant": "acme"})
    parent = create_run(PARENT)
    host.drain()
    assert WorkflowRun.objects.get(pk=failing.pk).status == "FAILED"
    # Its child waits for a day, and has not been told.
    cancel_run(parent, reason=TEXT, actor=TEXT)
    while kernel.dispatch(FlushOutbox()).more:
        pass
    create_schedule("often", NOTES, "* * * * *", input=TEXT, actor=TEXT)
    waiting = create_run(NOTES, TEXT)
    command = CancelRun(run_id=waiting.pk, reason=TEXT)
    schedule(command, run_at=clock.now() + timedelta(hours=1), correlation_id=PRINTABLE)
    cancel_runs([waiting], reason=TEXT, actor=TEXT)
    pause_queue("default", reason=TEXT, actor=TEXT)
    facts = WorkerFacts(id=uuid.uuid4(), name=TEXT[:100], host=TEXT[:100], pid=1, version="0", slots=1)
    kernel.dispatch(Beat(worker=facts, running={}))
    clock.advance(timedelta(minutes=2))
    kernel.dispatch(FireSchedules())
    # New events: somebody is to hear of them, and has not.
    kernel.dispatch(FlushOutbox(subscriber=""))


def test_every_row_of_every_table_can_be_read(kernel: Kernel, clock: FakeClock) -> None:
    write_every_table(kernel, clock)
    client = reader()
    models = list(apps.get_app_config("workflow_engine").get_models())

    found = {model.__name__: read_rows(client, model) for model in models}

    assert not [name for name, rows in found.items() if not rows], found
    # What has no list of its own is shown on the page of its run.
    assert [model for model in models if model not in site._registry] == [RunData]


def test_every_resource_can_be_read_from_the_api(kernel: Kernel, clock: FakeClock) -> None:
    write_every_table(kernel, clock)
    client = reader()

    for name in ("workflows", "runs", "schedules", "scheduled-commands", "dead-letters", "webhooks"):
        assert read_api(client, name)["results"], name
    for run in WorkflowRun.objects.all():
        read_run(client, run.pk)
    for row in BulkOperation.objects.all():
        read_api(client, "bulk-operation", operation_id=row.pk)
    for plan in Schedule.objects.all():
        read_api(client, "schedule", schedule_id=plan.pk)
        read_api(client, "schedule-next", schedule_id=plan.pk)
    for hook in WebhookEndpoint.objects.all():
        read_api(client, "webhook", endpoint_id=hook.pk)
        assert read_api(client, "webhook-deliveries", endpoint_id=hook.pk)["results"]
    for item in StageRun.objects.filter(map_index__gte=0):
        place = {"run_id": item.run_id, "stage_id": item.stage}
        read_api(client, "stage-items", **place)
        read_api(client, "stage-item", **place, item=item.map_index)
    read_api(client, "workflow", workflow_id="notes")
