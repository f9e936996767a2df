"""Call one stage body without an engine, on what a stored run would give it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from workflow_engine import Stage, StageContext
from workflow_engine.definitions.desk import Level, StageFacts, StageStorage


class Desk:
    """Keeps what a body reports."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self.outputs = outputs
        self.logs: list[tuple[Level, str, Mapping[str, Any]]] = []
        self.percents: list[float] = []
        self.metrics: dict[str, float] = {}
        self.artifacts: dict[str, tuple[str, str | None]] = {}

    def log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        self.logs.append((level, message, fields))

    def progress(self, percent: float, message: str, details: Mapping[str, Any]) -> None:
        self.percents.append(percent)

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def artifact(self, name: str, data: Any, content_type: str | None) -> str:
        self.artifacts[name] = (data, content_type)
        return name

    def output_of(self, stage_id: str) -> Any:
        return self.outputs[stage_id]

    def now(self) -> datetime:
        return datetime(2030, 1, 2, 3, 4, tzinfo=UTC)

    def raise_if_cancelled(self) -> None: ...

    def annotate(self, key: str, value: Any, actor: str, idempotency_key: str | None, emit_event: bool) -> None:
        raise AssertionError("no stage of the documents annotates")

    def subject(self) -> Any:
        raise AssertionError("no run of the documents is about a row")

    @property
    def storage(self) -> StageStorage:
        raise AssertionError("no stage of the documents stores files of its own")


def call(
    stage: Stage[Any, Any, Any],
    value: Any,
    *,
    config: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    attempt: int = 1,
) -> tuple[Any, Desk]:
    """Call the body as the engine does, input, config and output going through JSON; return output and desk."""
    signature = stage.signature
    settings, problems = signature.config.merge(config or {}, stage.id)
    assert not problems, problems
    desk = Desk(outputs or {})
    facts = StageFacts(UUID(int=1), "document-analysis", stage.id, stage.name, 1, attempt, 0, None, {})
    context: StageContext[Any, Any] = StageContext(
        facts,
        signature.input.read(to_json(value)),
        signature.config.adapter.validate_python(settings) if signature.config.type else None,
        desk,
    )
    output = stage(context)
    return signature.output.read(to_json(output)), desk
