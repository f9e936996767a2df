"""What the API says of each row: fields are listed one by one, so a new column stays inside until it is named here."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from rest_framework import serializers

from workflow_engine.models import NOT_AN_ITEM
from workflow_engine.models.maps import counts_of
from workflow_engine.redaction import redact, redact_event
from workflow_engine.statuses import StageStatus


class Time(serializers.DateTimeField):
    """ISO 8601 in UTC, whatever the project's settings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format="iso-8601", default_timezone=UTC, **options)


class Redacted(serializers.Field):
    """JSON with secrets masked."""

    def to_representation(self, value: Any) -> Any:
        return redact(value)


class ItemIndex(serializers.Field):
    """Index of the item of a mapped stage; null for what is of no item."""

    def __init__(self, **options: Any) -> None:
        super().__init__(source="map_index", **options)

    def to_representation(self, value: Any) -> Any:
        return None if value == NOT_AN_ITEM else value


class RunSerializer(serializers.Serializer[Any]):
    """A run, as lists and answers show it."""

    run_id = serializers.UUIDField(source="pk")
    workflow_id = serializers.CharField(source="workflow")
    version = serializers.CharField()
    status = serializers.CharField()
    priority = serializers.IntegerField()
    generation = serializers.IntegerField()
    created_at = Time()
    # None: it waits for a place of its workflow's limit.
    due_at = Time(source="due_time")
    started_at = Time()
    finished_at = Time()
    paused_at = Time()
    total_cost = serializers.FloatField()
    total_tokens = serializers.IntegerField()
    error = Redacted()
    # The run whose stage has started this one, the first of the line, and how many lie above.
    parent_run_id = serializers.UUIDField()
    parent_stage_run_id = serializers.UUIDField()
    root_run_id = serializers.UUIDField()
    depth = serializers.IntegerField()


class SuspensionSerializer(serializers.Serializer[Any]):
    """What a suspended stage waits for. ``answer`` describes the awaited one, its JSON Schema included.

    ``child_run``: the run that it waits for, ``{"run_id", "workflow_id", "status"}``.
    """

    waits_for = serializers.CharField(source="wait_kind")
    wait = serializers.SerializerMethodField()
    suspended_at = Time()
    wake_at = Time(source="wake_time")
    wait_until = Time()
    polls = serializers.IntegerField()
    check_errors = serializers.IntegerField()
    error = Redacted()
    answer = serializers.SerializerMethodField()
    child_run = serializers.SerializerMethodField()

    def get_child_run(self, row: Any) -> Any:
        child = self.context["awaited"].child(row)
        return child and {"run_id": str(child.pk), "workflow_id": child.workflow, "status": child.status}

    def get_wait(self, row: Any) -> str | None:
        return row.wait_name or None

    def get_answer(self, row: Any) -> Any:
        return self.context["question"](row)


class StageSummarySerializer(serializers.Serializer[Any]):
    """A stage, as the page of its run shows it."""

    stage_id = serializers.CharField(source="stage")
    group = serializers.IntegerField(source="group_number")
    item_index = serializers.IntegerField()
    status = serializers.CharField()
    attempt = serializers.IntegerField()
    progress = Redacted()
    # The condition of the plan, in words; null: it runs in any case.
    when = serializers.SerializerMethodField()
    suspended = serializers.SerializerMethodField()
    # Of a mapped stage: how many there are, done, failed, cancelled and running.
    items = serializers.SerializerMethodField()

    def get_items(self, row: Any) -> Any:
        counts = self.context["awaited"].counts(row)
        return None if counts is None else counts_of(counts)

    def get_when(self, row: Any) -> str | None:
        condition: str | None = self.context["conditions"].get(row.stage)
        return condition

    def get_suspended(self, row: Any) -> Any:
        return SuspensionSerializer(row, context=self.context).data if row.status == StageStatus.SUSPENDED else None


class StageSerializer(StageSummarySerializer):
    """A stage run."""

    stage_run_id = serializers.UUIDField(source="pk")
    number = serializers.IntegerField(source="stage_number")
    generation = serializers.IntegerField()
    queue = serializers.CharField()
    priority = serializers.IntegerField()
    failures = serializers.IntegerField()
    crashes = serializers.IntegerField()
    worker_id = serializers.UUIDField(source="worker")
    due_at = Time(source="due_time")
    started_at = Time()
    finished_at = Time()
    error = Redacted()
    metrics = Redacted()


class LogSerializer(serializers.Serializer[Any]):
    """A log line."""

    id = serializers.IntegerField()
    created_at = Time()
    level = serializers.CharField()
    stage_id = serializers.CharField(source="stage")
    item_index = ItemIndex()
    attempt = serializers.IntegerField()
    message = serializers.CharField()
    # The metaclass takes declared fields off the class, so the property of this name is as it was.
    fields = Redacted()  # type: ignore[assignment]


class DeadLetterSerializer(serializers.Serializer[Any]):
    """An event that a subscriber has refused for good."""

    id = serializers.IntegerField()
    run_id = serializers.UUIDField()
    sequence = serializers.IntegerField()
    type = serializers.CharField()
    subscriber = serializers.CharField()
    tries = serializers.IntegerField()
    error = serializers.CharField()
    died_at = Time()
    replay_at = Time()


class EventSerializer(serializers.Serializer[Any]):
    """An event of the outbox."""

    sequence = serializers.IntegerField()
    type = serializers.CharField()
    generation = serializers.IntegerField()
    occurred_at = Time()
    causation_id = serializers.UUIDField()
    payload = serializers.SerializerMethodField()

    def get_payload(self, event: Any) -> dict[str, Any]:
        return redact_event(event.payload)


class AttemptSerializer(serializers.Serializer[Any]):
    """A try of a stage's body, or of its completion check. The traceback stays in the admin."""

    id = serializers.IntegerField()
    stage_id = serializers.CharField(source="stage")
    item_index = ItemIndex()
    stage_run_id = serializers.UUIDField()
    generation = serializers.IntegerField()
    attempt = serializers.IntegerField()
    kind = serializers.CharField()
    outcome = serializers.CharField()
    worker_id = serializers.UUIDField(source="worker")
    started_at = Time()
    finished_at = Time()
    error_code = serializers.CharField()
    error_class = serializers.CharField()
    error_message = serializers.CharField()


class ArtifactSerializer(serializers.Serializer[Any]):
    """A file that a stage wrote; its bytes are not part of the API."""

    artifact_id = serializers.UUIDField(source="pk")
    stage_id = serializers.CharField(source="stage")
    item_index = ItemIndex()
    name = serializers.CharField()
    content_type = serializers.CharField()
    size = serializers.IntegerField()
    sha256 = serializers.CharField()
    created_at = Time()


class BulkOperationSerializer(serializers.Serializer[Any]):
    """A bulk operation and how far it is. The config of a rerun stays inside."""

    operation_id = serializers.UUIDField(source="pk")
    action = serializers.CharField(source="kind")
    status = serializers.CharField()
    reason = serializers.SerializerMethodField()
    stage = serializers.SerializerMethodField()
    actor = serializers.CharField()
    total = serializers.IntegerField()
    done = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    failed = serializers.IntegerField()
    created_at = Time()
    started_at = Time()
    finished_at = Time()

    def get_reason(self, row: Any) -> str | None:
        return row.arguments.get("reason") or None

    def get_stage(self, row: Any) -> str | None:
        return row.arguments.get("stage_id")  # type: ignore[no-any-return]


class ScheduleSerializer(serializers.Serializer[Any]):
    """A schedule; its input is for holders of ``view_payload``."""

    schedule_id = serializers.UUIDField(source="pk")
    name = serializers.CharField()
    workflow_id = serializers.CharField(source="workflow")
    cron = serializers.CharField()
    timezone = serializers.CharField()
    overlap = serializers.CharField()
    catch_up = serializers.CharField()
    enabled = serializers.BooleanField()
    declared = serializers.BooleanField()
    next_due_at = Time()
    last_fired_at = Time()
    last_skipped_at = Time()
    last_skipped_reason = serializers.CharField()
    error = serializers.CharField()
    created_by = serializers.CharField()
    created_at = Time()
    changed_at = Time()


class ScheduledCommandSerializer(serializers.Serializer[Any]):
    """A command that is carried out at a time."""

    command_id = serializers.UUIDField(source="pk")
    command = serializers.CharField()
    correlation_id = serializers.CharField()
    status = serializers.CharField()
    run_at = Time()
    due_at = Time()
    tries = serializers.IntegerField()
    error = serializers.CharField()
    result = serializers.JSONField()
    actor = serializers.CharField()
    created_at = Time()
    finished_at = Time()


class ScheduledPayloadSerializer(ScheduledCommandSerializer):
    """One with its fields, for holders of ``view_payload``."""

    payload = Redacted()


class WebhookSerializer(serializers.Serializer[Any]):
    """A webhook. Its secrets are shown where they are made, and nowhere else."""

    webhook_id = serializers.UUIDField(source="pk")
    url = serializers.CharField()
    description = serializers.CharField()
    events = serializers.ListField()
    workflows = serializers.ListField()
    active = serializers.BooleanField()
    disabled_at = Time()
    disabled_reason = serializers.CharField()
    failures = serializers.IntegerField()
    failing_since = Time()
    # The secret before this one signs until then.
    previous_secret_until = Time(source="previous_until")
    created_by = serializers.CharField()
    created_at = Time()
    updated_at = Time()


class WebhookDeliverySerializer(serializers.Serializer[Any]):
    """A request to a webhook, and its answer."""

    id = serializers.IntegerField()
    event_id = serializers.CharField()
    type = serializers.CharField()
    run_id = serializers.UUIDField()
    attempt = serializers.IntegerField()
    delivered = serializers.BooleanField()
    status = serializers.IntegerField()
    duration_ms = serializers.IntegerField()
    error = serializers.CharField()
    response = serializers.CharField()
    url = serializers.CharField()
    sent_at = Time()
