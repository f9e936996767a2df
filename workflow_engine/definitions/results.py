"""How one try of a stage's body ended, in plain data."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal


class RunCancelledError(BaseException):
    """The run was cancelled, or this worker lost the attempt: stop working, nothing of it will be kept.

    Not an ``Exception``, so that a body's ``except Exception`` cannot swallow it.
    """


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A run that a stage asks for, ready to be written: plan, config and the input's envelope as a run has them.

    ``name``: what the stage calls it; ``digest``: of workflow and input, to know the same request again.
    """

    run_id: uuid.UUID
    name: str
    workflow_id: str
    plan: dict[str, Any]
    config: dict[str, Any]
    input: dict[str, Any]
    priority: int
    metadata: dict[str, Any]
    digest: str
    # Of the workflow's limit; None: nothing limits it.
    limit_key: str | None = None


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a stage waits for from here on.

    Times are spans from the moment of the suspension, or an exact ``wake_at``; None: there is no such time.
    """

    kind: Literal["poll", "answer", "timer", "items", "child"]
    name: str = ""
    # The envelope of what ``ctx.suspend`` was given.
    state: dict[str, Any] | None = None
    wake_in: timedelta | None = None
    wake_at: datetime | None = None
    max_wait: timedelta | None = None
    poll_every: timedelta | None = None
    # The run to start; None: it was started before.
    child: ChildRequest | None = None


class StageSuspended(BaseException):
    """The body has ended for now; it is the engine's own unwinding, so ``except Exception`` cannot swallow it."""

    def __init__(self, suspension: Suspension) -> None:
        self.suspension = suspension
        super().__init__(f"the stage waits: {suspension.kind} {suspension.name}".strip())


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
    # Called inside the finishing transaction.
    on_complete: tuple[Callable[[], Any], ...] = ()


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


@dataclass(frozen=True, slots=True)
class Suspended:
    """The body waits for something; its stage is suspended and nothing of it runs meanwhile."""

    suspension: Suspension
    notes: Notes = Notes()


@dataclass(frozen=True, slots=True)
class Expanded:
    """A mapped stage has its items: their envelopes, in order."""

    items: tuple[dict[str, Any], ...]
    notes: Notes = Notes()


@dataclass(frozen=True, slots=True)
class StillPending:
    """A completion check found that the work is not done; None: check again after the stage's interval."""

    next_check_in: timedelta | None
    notes: Notes = Notes()


Result = Completed | Failed | Suspended | Expanded
CheckResult = Completed | Failed | StillPending
