"""Attempts and their results as JSON, for the way to another process and back."""

from __future__ import annotations

import uuid
from dataclasses import MISSING, asdict, fields, replace
from datetime import datetime, timedelta
from typing import Any, cast, get_type_hints

from workflow_engine.definitions.results import (
    AnnotationNote,
    ArtifactRef,
    CheckResult,
    ChildRequest,
    Completed,
    Failed,
    Notes,
    Result,
    StageError,
    StillPending,
    Suspended,
    Suspension,
)
from workflow_engine.kernel.checked import ClaimedCheck
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
    """Return ``{"output": …, "notes": …}``, or ``{"error": …, "retry_in": seconds or None, "notes": …}``.

    Of a body that waits: ``{"suspension": {…}, "notes": …}``, spans in seconds, times in ISO 8601.
    """
    notes = asdict(replace(result.notes, on_complete=()))
    if isinstance(result, Completed):
        return {"output": result.output, "notes": notes}
    if isinstance(result, Suspended):
        return {"suspension": _suspension_as_json(result.suspension), "notes": notes}
    if not isinstance(result, Failed):
        raise TypeError(f"{type(result).__name__} is made in the worker's own process")
    retry_in = None if result.retry_in is None else result.retry_in.total_seconds()
    return {"error": asdict(result.error), "retry_in": retry_in, "notes": notes}


def result_from_json(data: JsonObject) -> Result:
    notes = _notes_from_json(data["notes"])
    if "output" in data:
        return Completed(data["output"], notes)
    if "suspension" in data:
        return Suspended(_suspension_from_json(data["suspension"]), notes)
    retry_in = None if data["retry_in"] is None else timedelta(seconds=data["retry_in"])
    return Failed(StageError(**data["error"]), retry_in, notes)


def _notes_from_json(data: JsonObject) -> Notes:
    return Notes(
        data["metrics"],
        tuple(ArtifactRef(**item) for item in data["artifacts"]),
        tuple(AnnotationNote(**item) for item in data["annotations"]),
    )


def check_as_json(check: ClaimedCheck) -> JsonObject:
    """Return a check for the way to a child process, which needs of it the attempt and the state."""
    return {**started_as_json(check.stage), "check": {"state": check.state}}


def check_from_json(data: JsonObject) -> ClaimedCheck:
    rest = {name: value for name, value in data.items() if name != "check"}
    stage, state = started_from_json(rest), data["check"]["state"]
    return ClaimedCheck(stage, state, timedelta(0), None, None, polls=0, errors=stage.failures, suspect=True)


def check_result_as_json(result: CheckResult) -> JsonObject:
    """As ``result_as_json``; of work that is not done: ``{"pending": seconds or None, "notes": …}``."""
    if isinstance(result, StillPending):
        wait = None if result.next_check_in is None else result.next_check_in.total_seconds()
        return {"pending": wait, "notes": asdict(result.notes)}
    return result_as_json(result)


def check_result_from_json(data: JsonObject) -> CheckResult:
    if "pending" in data:
        wait = None if data["pending"] is None else timedelta(seconds=data["pending"])
        return StillPending(wait, _notes_from_json(data["notes"]))
    return cast(CheckResult, result_from_json(data))


_SPANS = ("wake_in", "max_wait", "poll_every")


def _suspension_as_json(suspension: Suspension) -> JsonObject:
    data = asdict(suspension)
    for name in _SPANS:
        data[name] = None if data[name] is None else data[name].total_seconds()
    child = None if data["child"] is None else {**data["child"], "run_id": str(data["child"]["run_id"])}
    wake_at = None if suspension.wake_at is None else suspension.wake_at.isoformat()
    return {**data, "wake_at": wake_at, "child": child}


def _suspension_from_json(data: JsonObject) -> Suspension:
    spans = {name: None if data[name] is None else timedelta(seconds=data[name]) for name in _SPANS}
    wake_at = None if data["wake_at"] is None else datetime.fromisoformat(data["wake_at"])
    child = data["child"] and ChildRequest(**{**data["child"], "run_id": uuid.UUID(data["child"]["run_id"])})
    return Suspension(**{**data, **spans, "wake_at": wake_at, "child": child or None})
