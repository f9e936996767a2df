"""How one try of a stage's body ended, in plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


class RunCancelledError(BaseException):
    """The run was cancelled, or this worker lost the attempt: stop working, nothing of it will be kept.

    Not an ``Exception``, so that a body's ``except Exception`` cannot swallow it.
    """


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file that the body wrote to the blob store; it becomes visible when the stage ends."""

    name: str
    key: str
    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class AnnotationNote:
    """A fact about the run that the body recorded; stored when the stage ends."""

    key: str
    value: Any
    actor: str = ""
    idempotency_key: str | None = None
    emit_event: bool = False


@dataclass(frozen=True, slots=True)
class Notes:
    """What a body left behind besides its output."""

    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: tuple[ArtifactRef, ...] = ()
    annotations: tuple[AnnotationNote, ...] = ()


@dataclass(frozen=True, slots=True)
class StageError:
    """Why an attempt failed: ``code`` for programs, ``kind`` the exception's class, ``message`` for people."""

    code: str
    kind: str
    message: str
    traceback: str = ""

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "class": self.kind, "message": self.message}


@dataclass(frozen=True, slots=True)
class Completed:
    """The body returned; ``output`` is the envelope of its validated output (inline value or blob reference)."""

    output: dict[str, Any]
    notes: Notes = Notes()


@dataclass(frozen=True, slots=True)
class Failed:
    """The body raised; ``retry_in`` is the wait before the next attempt, None = failed for good."""

    error: StageError
    retry_in: timedelta | None
    notes: Notes = Notes()


Result = Completed | Failed
