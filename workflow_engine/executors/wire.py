"""Attempts and their results as JSON, for the way to another process and back."""

from __future__ import annotations

import uuid
from dataclasses import MISSING, asdict, fields
from datetime import timedelta
from typing import Any, get_type_hints

from workflow_engine.definitions.results import (
    AnnotationNote,
    ArtifactRef,
    Completed,
    Failed,
    Notes,
    Result,
    StageError,
)
from workflow_engine.kernel.started import InputReference, StartedStage

JsonObject = dict[str, Any]
# What has a default is there to save this process a query.
_FIELDS = tuple(item.name for item in fields(StartedStage) if item.default is MISSING and item.name != "input")
_IDS = frozenset(name for name, hint in get_type_hints(StartedStage).items() if hint is uuid.UUID)


def started_as_json(started: StartedStage) -> JsonObject:
    data = {name: getattr(started, name) for name in _FIELDS}
    data |= {name: str(data[name]) for name in _IDS}
    data |= {name: dict(data[name]) for name in ("config", "metadata")}
    return {**data, "input": {"envelopes": dict(started.input.envelopes), "mapping": started.input.mapping}}


def started_from_json(data: JsonObject) -> StartedStage:
    values: JsonObject = {name: uuid.UUID(value) if name in _IDS else value for name, value in data.items()}
    values["input"] = InputReference(**data["input"])
    return StartedStage(**values)


def result_as_json(result: Result) -> JsonObject:
    """Return ``{"output": …, "notes": …}``, or ``{"error": …, "retry_in": seconds or None, "notes": …}``."""
    notes = asdict(result.notes)
    if isinstance(result, Completed):
        return {"output": result.output, "notes": notes}
    retry_in = None if result.retry_in is None else result.retry_in.total_seconds()
    return {"error": asdict(result.error), "retry_in": retry_in, "notes": notes}


def result_from_json(data: JsonObject) -> Result:
    notes = Notes(
        data["notes"]["metrics"],
        tuple(ArtifactRef(**item) for item in data["notes"]["artifacts"]),
        tuple(AnnotationNote(**item) for item in data["notes"]["annotations"]),
    )
    if "output" in data:
        return Completed(data["output"], notes)
    retry_in = None if data["retry_in"] is None else timedelta(seconds=data["retry_in"])
    return Failed(StageError(**data["error"]), retry_in, notes)
