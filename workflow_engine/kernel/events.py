"""What can happen to a run: one class per event, past tense. Payloads are small: references, never outputs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; the fields are the payload."""

    type: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        kind = type(self)
        names = _fields.get(kind)
        if names is None:
            names = _fields[kind] = tuple(item.name for item in fields(kind))
        return {name: value for name in names if (value := getattr(self, name)) is not None}


# Asked once per class: events are written on the hot path.
_fields: dict[type, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class RunCreated(Event):
    type = "run.created"
    workflow_id: str


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    type = "run.started"
    workflow_id: str


@dataclass(frozen=True, slots=True)
class RunCompleted(Event):
    """``output`` names the stages whose outputs are the run's; totals that are 0 are left out."""

    type = "run.completed"
    workflow_id: str
    output: tuple[str, ...]
    duration_ms: int | None = None
    total_cost: float | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RunFailed(Event):
    type = "run.failed"
    workflow_id: str
    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSuspended(Event):
    """Written beside ``stage.suspended``: a stage of the run waits."""

    type = "run.suspended"
    workflow_id: str
    stage_id: str


@dataclass(frozen=True, slots=True)
class RunCancelled(Event):
    type = "run.cancelled"
    workflow_id: str
    reason: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RunRerun(Event):
    """The run goes on from ``stage_id``; ``superseded`` names the stages whose earlier rows no longer count."""

    type = "run.rerun"
    workflow_id: str
    stage_id: str
    superseded: tuple[str, ...]
    actor: str | None = None
    # Of the mapped stage only so many items run again, those that had not succeeded.
    items: int | None = None


@dataclass(frozen=True, slots=True)
class RunPaused(Event):
    """Nothing new of the run starts; what runs finishes."""

    type = "run.paused"
    workflow_id: str
    reason: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RunResumed(Event):
    type = "run.resumed"
    workflow_id: str
    reason: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class StageEvent(Event):
    stage_id: str
    stage_run_id: str
    attempt: int
    token: int
    item_index: int | None = None


@dataclass(frozen=True, slots=True)
class StageStarted(StageEvent):
    type = "stage.started"


@dataclass(frozen=True, slots=True)
class StageCompleted(StageEvent):
    type = "stage.completed"
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class StageRetrying(StageEvent):
    """The attempt ended without a result; ``reason`` is ``error``, ``worker_lost`` or ``released``."""

    type = "stage.retrying"
    reason: str = "error"
    delay_seconds: float = 0
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StageSuspended(StageEvent):
    """The stage waits; ``waits_for`` is ``poll``, ``answer``, ``timer``, ``items`` or ``child``, times are ISO 8601."""

    type = "stage.suspended"
    waits_for: str = ""
    wait: str | None = None
    wake_at: str | None = None
    wait_until: str | None = None
    # The run that was started for it.
    child_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class StageAnswered(StageEvent):
    """A wait has its answer; ``by_default``: nobody gave one in time."""

    type = "stage.answered"
    wait: str = ""
    actor: str | None = None
    by_default: bool = False


@dataclass(frozen=True, slots=True)
class StageSkipped(StageEvent):
    """The stage's condition, ``when``, does not hold."""

    type = "stage.skipped"
    when: str = ""


@dataclass(frozen=True, slots=True)
class StageFailed(StageEvent):
    type = "stage.failed"
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StageCancelled(StageEvent):
    type = "stage.cancelled"


@dataclass(frozen=True, slots=True)
class AnnotationCreated(Event):
    type = "annotation.created"
    key: str
    value: Any
    stage_id: str | None = None
    actor: str | None = None
