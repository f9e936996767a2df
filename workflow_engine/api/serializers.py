"""What the API says of each row: fields are listed one by one, so a new column stays inside until it is named here."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from rest_framework import serializers

from workflow_engine.redaction import redact
from workflow_engine.statuses import StageStatus


class Time(serializers.DateTimeField):
    """ISO 8601 in UTC, whatever the project's settings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format="iso-8601", default_timezone=UTC, **options)


class Redacted(serializers.Field):
    """JSON with secrets masked."""

    def to_representation(self, value: Any) -> Any:
        return redact(value)


class RunSerializer(serializers.Serializer[Any]):
    """A run, as lists and answers show it."""

    run_id = serializers.UUIDField(source="pk")
    workflow_id = serializers.CharField(source="workflow")
    version = serializers.CharField()
    status = serializers.CharField()
    priority = serializers.IntegerField()
    generation = serializers.IntegerField()
    created_at = Time()
    due_at = Time()
    started_at = Time()
    finished_at = Time()
    paused_at = Time()
    total_cost = serializers.FloatField()
    total_tokens = serializers.IntegerField()
    error = Redacted()


class SuspensionSerializer(serializers.Serializer[Any]):
    """What a suspended stage waits for. ``answer`` describes the awaited one, its JSON Schema included."""

    waits_for = serializers.CharField(source="wait_kind")
    wait = serializers.SerializerMethodField()
    suspended_at = Time()
    wake_at = Time()
    wait_until = Time()
    polls = serializers.IntegerField()
    check_errors = serializers.IntegerField()
    error = Redacted()
    answer = serializers.SerializerMethodField()

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
    due_at = Time()
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
    attempt = serializers.IntegerField()
    message = serializers.CharField()
    # The metaclass takes declared fields off the class, so the property of this name is as it was.
    fields = Redacted()  # type: ignore[assignment]


class EventSerializer(serializers.Serializer[Any]):
    """An event of the outbox."""

    sequence = serializers.IntegerField()
    type = serializers.CharField()
    generation = serializers.IntegerField()
    occurred_at = Time()
    causation_id = serializers.UUIDField()
    payload = serializers.SerializerMethodField()

    def get_payload(self, event: Any) -> dict[str, Any]:
        # The number of the attempt's lease is called token, and is no secret.
        token = event.payload.get("token")
        masked: dict[str, Any] = redact(event.payload)
        return {**masked, "token": token} if isinstance(token, int) else masked


class AttemptSerializer(serializers.Serializer[Any]):
    """A try of a stage's body, or of its completion check. The traceback stays in the admin."""

    id = serializers.IntegerField()
    stage_id = serializers.CharField(source="stage")
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
    name = serializers.CharField()
    content_type = serializers.CharField()
    size = serializers.IntegerField()
    sha256 = serializers.CharField()
    created_at = Time()
