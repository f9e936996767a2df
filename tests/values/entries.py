"""Every argument of a public function that is stored, as a function that writes a value there and reads it back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import models
from pydantic import BaseModel

from workflow_engine import (
    annotate_run,
    answer_stage,
    cancel_run,
    cancel_runs,
    create_run,
    create_runs,
    create_schedule,
    pause_queue,
    pause_run,
    rerun_from,
    schedule,
)
from workflow_engine.bulk import NewRun
from workflow_engine.definitions import StageContext, Wait, Workflow, define_workflow, stage
from workflow_engine.errors import FieldError, InvalidInput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands import CreateRun, CreateWebhook
from workflow_engine.models import (
    BulkOperation,
    IdempotencyKey,
    OutboxEvent,
    Pause,
    RunData,
    Schedule,
    ScheduledCommand,
    StageMemo,
    WebhookEndpoint,
    WorkflowAnnotation,
    WorkflowRun,
)
from workflow_engine.statuses import StageStatus

URL = "https://example.com/"


class Settings(BaseModel):
    any: Any = None


@stage("ask", waits=[Wait("anything", Any)])
def ask(ctx: StageContext[Any, Settings]) -> Any:
    return ctx.wait_for(ask.waits[0])


ANY: Workflow[Any, Any] = define_workflow("any", input=Any).pipe(ask).build()


@dataclass(frozen=True)
class Entry:
    """``write`` puts a value in and returns what is read back of it; rows are of ``model``.

    ``json``: any JSON may be kept there; else it is text, or a name. ``large``: also megabytes. ``asks``: there is to
    be a run that waits for an answer.
    """

    name: str
    model: type[models.Model]
    write: Callable[[Any, InlineHost], Any]
    json: bool = True
    large: bool = False
    asks: bool = False


def _fresh(row: Any) -> Any:
    return type(row)._default_manager.get(pk=row.pk)


def _run(value: Any = None, **options: Any) -> WorkflowRun:
    return create_run(ANY, value, **options)


def _input(value: Any, host: InlineHost) -> Any:
    return _fresh(_run(value)).get_input()


def _input_of_many(value: Any, host: InlineHost) -> Any:
    made = create_runs([NewRun(ANY, value)])[0]
    if made.error is not None:
        raise made.error
    return WorkflowRun.objects.get(pk=made.run_id).get_input()


def _metadata(value: Any, host: InlineHost) -> Any:
    return RunData.objects.get(pk=_run(metadata={"a": value}).pk).metadata["a"]


def _metadata_itself(value: Any, host: InlineHost) -> Any:
    return RunData.objects.get(pk=_run(metadata=value).pk).metadata


def _config(value: Any, host: InlineHost) -> Any:
    return RunData.objects.get(pk=_run(config={"ask": {"any": value}}).pk).config["ask"]["any"]


def _config_itself(value: Any, host: InlineHost) -> Any:
    return RunData.objects.get(pk=_run(config=value).pk).config


def _key(value: Any, host: InlineHost) -> Any:
    run = _run(idempotency_key=value)
    assert _run(idempotency_key=value).pk == run.pk or value is None
    return value


def _key_of_content(value: Any, host: InlineHost) -> Any:
    """The same content under the same key is the same run, whatever the content."""
    key = str(uuid.uuid4())
    run = _run(value, idempotency_key=key)
    assert _run(value, idempotency_key=key).pk == run.pk
    return _fresh(run).get_input()


def _actor(value: Any, host: InlineHost) -> Any:
    return RunData.objects.get(pk=_run(actor=value).pk).created_by


def _first_annotation(value: Any, host: InlineHost) -> Any:
    run = _run(annotations={"a": value})
    return WorkflowAnnotation.objects.get(run=run).value if value is not None else None


def _annotation(value: Any, host: InlineHost) -> Any:
    run = _run()
    annotate_run(run, {"a": value}, emit_event=True)
    if value is None:
        return None
    told = OutboxEvent.objects.get(run=run, type="annotation.created").payload["value"]
    found = WorkflowAnnotation.objects.get(run=run).value
    assert told == found
    return found


def _annotation_key(value: Any, host: InlineHost) -> Any:
    run = _run()
    try:
        keys = {value: 1}
    except TypeError as error:
        # Python itself does not take it for a key.
        raise InvalidInput("a key", [FieldError("key", str(error))]) from error
    annotate_run(run, keys, emit_event=True)
    return WorkflowAnnotation.objects.get(run=run).key


def _annotations_themselves(value: Any, host: InlineHost) -> Any:
    run = _run()
    annotate_run(run, value)
    return dict(WorkflowAnnotation.objects.filter(run=run).values_list("key", "value"))


def _annotation_actor(value: Any, host: InlineHost) -> Any:
    run = _run()
    annotate_run(run, {"a": 1}, actor=value)
    return WorkflowAnnotation.objects.get(run=run).actor


def _annotation_once(value: Any, host: InlineHost) -> Any:
    run = _run()
    annotate_run(run, {"a": 1}, idempotency_key=value)
    return WorkflowAnnotation.objects.get(run=run).idempotency_key


def asking(host: InlineHost) -> WorkflowRun:
    """Return a run that waits for an answer: one that there is, or a new one."""
    waiting = WorkflowRun.objects.filter(stage_runs__status=StageStatus.SUSPENDED).first()
    if waiting is not None:
        return waiting
    run = _run()
    host.drain(run.pk)
    return run


def _answer(value: Any, host: InlineHost) -> Any:
    run = asking(host)
    answer_stage(run, ask, value, idempotency_key=str(run.pk))
    found = StageMemo.objects.get(run=run).get_value()
    # Once more, as somebody does whose request was not answered.
    assert not answer_stage(run, ask, value, idempotency_key=str(run.pk))
    return found


def _answer_under_a_used_key(value: Any, host: InlineHost) -> Any:
    run = asking(host)
    answer_stage(run, ask, "first", idempotency_key=str(run.pk))
    answer_stage(run, ask, value, idempotency_key=str(run.pk))
    raise AssertionError("another answer was taken under the same key")


def _wait_name(value: Any, host: InlineHost) -> Any:
    answer_stage(asking(host), ask, 1, wait=value)
    return value


def _item(value: Any, host: InlineHost) -> Any:
    answer_stage(asking(host), ask, 1, item=value)
    return value


def _reason(value: Any, host: InlineHost) -> Any:
    run = _run()
    cancel_run(run, reason=value)
    return RunData.objects.get(pk=run.pk).cancel_reason


def _pause_reason(value: Any, host: InlineHost) -> Any:
    run = _run()
    pause_run(run, reason=value)
    return OutboxEvent.objects.get(run=run, type="run.paused").payload.get("reason")


def _queue(value: Any, host: InlineHost) -> Any:
    Pause.objects.all().delete()
    pause_queue(value, reason="a")
    return Pause.objects.get().name


def _queue_reason(value: Any, host: InlineHost) -> Any:
    Pause.objects.all().delete()
    pause_queue("q", reason=value)
    return Pause.objects.get().reason


def _rerun_config(value: Any, host: InlineHost) -> Any:
    run = _run()
    cancel_run(run)
    # A key: the content is part of it.
    rerun_from(run, ask, config={"ask": {"any": value}}, idempotency_key=str(run.pk))
    return RunData.objects.get(pk=run.pk).config["ask"]["any"]


def _bulk_reason(value: Any, host: InlineHost) -> Any:
    return _fresh(cancel_runs([], reason=value)).arguments["reason"]


def _schedule_name(value: Any, host: InlineHost) -> Any:
    return _fresh(create_schedule(value, ANY, "0 0 * * *")).name


def _cron(value: Any, host: InlineHost) -> Any:
    Schedule.objects.all().delete()
    return _fresh(create_schedule("s", ANY, value)).cron


def _timezone(value: Any, host: InlineHost) -> Any:
    Schedule.objects.all().delete()
    return _fresh(create_schedule("s", ANY, "0 0 * * *", timezone=value)).timezone


def _schedule_input(value: Any, host: InlineHost) -> Any:
    Schedule.objects.all().delete()
    return _fresh(create_schedule("s", ANY, "0 0 * * *", input=value)).input


def _put_off(host: InlineHost, command: CreateRun, **options: Any) -> ScheduledCommand:
    row: ScheduledCommand = schedule(command, run_at=host.kernel.ports.clock.now() + timedelta(hours=1), **options)
    return _fresh(row)  # type: ignore[no-any-return]


def _put_off_input(value: Any, host: InlineHost) -> Any:
    return _put_off(host, CreateRun(workflow_id="any", input=value)).payload["input"]


def _put_off_metadata(value: Any, host: InlineHost) -> Any:
    return _put_off(host, CreateRun(workflow_id="any", metadata={"a": value})).payload["metadata"]["a"]


def _correlation_id(value: Any, host: InlineHost) -> Any:
    found = _put_off(host, CreateRun(workflow_id="any"), correlation_id=value).correlation_id
    return None if value is None else found


def _webhook(host: InlineHost, **fields: Any) -> WebhookEndpoint:
    made = host.kernel.dispatch(CreateWebhook(**{"url": URL, **fields}))
    return WebhookEndpoint.objects.get(pk=made.endpoint_id)


ENTRIES = [
    Entry("create_run input", WorkflowRun, _input, large=True),
    Entry("create_runs input", WorkflowRun, _input_of_many),
    Entry("create_run metadata", RunData, _metadata, large=True),
    Entry("create_run metadata itself", RunData, _metadata_itself),
    Entry("create_run config", RunData, _config),
    Entry("create_run config itself", RunData, _config_itself),
    Entry("create_run idempotency_key", IdempotencyKey, _key, json=False),
    Entry("create_run input under a key", IdempotencyKey, _key_of_content),
    Entry("create_run actor", RunData, _actor, json=False),
    Entry("create_run annotations", WorkflowAnnotation, _first_annotation),
    Entry("annotate_run value", WorkflowAnnotation, _annotation, large=True),
    Entry("annotate_run key", WorkflowAnnotation, _annotation_key, json=False),
    Entry("annotate_run values", WorkflowAnnotation, _annotations_themselves),
    Entry("annotate_run actor", WorkflowAnnotation, _annotation_actor, json=False),
    Entry("annotate_run idempotency_key", WorkflowAnnotation, _annotation_once, json=False),
    Entry("answer_stage data", StageMemo, _answer, asks=True),
    Entry("answer_stage data under a used key", StageMemo, _answer_under_a_used_key, asks=True),
    Entry("answer_stage wait", StageMemo, _wait_name, json=False, asks=True),
    Entry("answer_stage item", StageMemo, _item, json=False, asks=True),
    Entry("cancel_run reason", RunData, _reason, json=False),
    Entry("pause_run reason", OutboxEvent, _pause_reason, json=False),
    Entry("pause_queue queue", Pause, _queue, json=False),
    Entry("pause_queue reason", Pause, _queue_reason, json=False),
    Entry("rerun_from config", RunData, _rerun_config),
    Entry("cancel_runs reason", BulkOperation, _bulk_reason, json=False),
    Entry("create_schedule name", Schedule, _schedule_name, json=False),
    Entry("create_schedule cron", Schedule, _cron, json=False),
    Entry("create_schedule timezone", Schedule, _timezone, json=False),
    Entry("create_schedule input", Schedule, _schedule_input),
    Entry("schedule input", ScheduledCommand, _put_off_input),
    Entry("schedule metadata", ScheduledCommand, _put_off_metadata),
    Entry("schedule correlation_id", ScheduledCommand, _correlation_id, json=False),
    Entry("webhook url", WebhookEndpoint, lambda value, host: _webhook(host, url=value).url, json=False),
    Entry(
        "webhook description",
        WebhookEndpoint,
        lambda value, host: _webhook(host, description=value).description,
        json=False,
    ),
    Entry("webhook events", WebhookEndpoint, lambda value, host: _webhook(host, events=(value,)).events[0], json=False),
    Entry(
        "webhook workflows",
        WebhookEndpoint,
        lambda value, host: _webhook(host, workflows=(value,)).workflows[0],
        json=False,
    ),
]
