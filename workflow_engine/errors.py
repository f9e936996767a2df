"""Every error the engine raises on purpose.

.. code-block:: text

    WorkflowEngineError
    ├── InvalidDefinition           a stage or workflow is written wrongly (import or build time)
    │   └── DuplicateWorkflow       the id is registered already
    ├── WorkflowNotFound  StageNotFound  RunNotFound
    ├── InvalidInput  InvalidConfig  InvalidOutput
    ├── InvalidPayload              a value that cannot be stored as JSON and read back
    │   └── PayloadTooLarge
    ├── InvalidTransition           the run or stage is in a status that a command cannot leave
    │   ├── NotWaiting              the stage does not wait for this answer
    │   └── AlreadyAnswered         somebody else was quicker
    ├── StaleLease  MissingStageOutput  BlobNotFound
    ├── ProcessDied                 the process of a stage with isolation="process" died
    ├── IdempotencyConflict  IdempotencyInProgress
    ├── WaitTimeout
    ├── DatabaseConflict            repeat the whole transaction
    └── DatabaseUnavailable         try again later

Each carries ``code``, a constant for programs; the text is for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class WorkflowEngineError(Exception):
    """Base of all errors of the engine."""

    code: ClassVar[str] = "ERROR"


class InvalidDefinition(WorkflowEngineError):
    """A stage or workflow is written wrongly; the text names it, the value and the fix."""

    code = "INVALID_DEFINITION"


class DuplicateWorkflow(InvalidDefinition):
    """A workflow with this id is registered already."""

    code = "DUPLICATE_WORKFLOW"


class WorkflowNotFound(WorkflowEngineError):
    """No workflow of this id is registered in this process."""

    code = "WORKFLOW_NOT_FOUND"

    def __init__(self, workflow_id: str, known: Sequence[str] = ()) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"No workflow {workflow_id!r} is registered. Registered: {', '.join(map(repr, known)) or 'none'}."
        )


class StageNotFound(WorkflowEngineError):
    """The workflow has no stage of this id."""

    code = "STAGE_NOT_FOUND"

    def __init__(self, workflow_id: str, stage_id: str, known: Sequence[str] = ()) -> None:
        self.workflow_id, self.stage_id = workflow_id, stage_id
        super().__init__(
            f"Workflow {workflow_id!r} has no stage {stage_id!r}. Its stages: {', '.join(map(repr, known)) or 'none'}."
        )


class RunNotFound(WorkflowEngineError):
    """No run has this id."""

    code = "RUN_NOT_FOUND"

    def __init__(self, run_id: object) -> None:
        self.run_id = run_id
        super().__init__(f"No run {str(run_id)!r} exists.")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a value: ``path`` is dotted (``stage.field.0``), empty for the value itself."""

    path: str
    message: str
    code: str = "invalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class _ValueErrors(WorkflowEngineError):
    """An error about a value, listing every field that is wrong. Values themselves are never repeated."""

    what: ClassVar[str]

    def __init__(self, subject: str, errors: Sequence[FieldError]) -> None:
        self.subject, self.errors = subject, tuple(errors)
        super().__init__(f"{self.what} of {subject}: " + "; ".join(map(str, self.errors)))


class InvalidInput(_ValueErrors):
    """The input does not fit the declared type."""

    code = "INVALID_INPUT"
    what = "Invalid input"


class InvalidConfig(_ValueErrors):
    """The config does not fit; ``errors`` holds every error of every stage, paths start with the stage id."""

    code = "INVALID_CONFIG"
    what = "Invalid config"


class InvalidOutput(_ValueErrors):
    """A stage returned something that does not fit its declared output type."""

    code = "INVALID_OUTPUT"
    what = "Invalid output"


class InvalidPayload(WorkflowEngineError):
    """A value cannot be stored as JSON and read back the same on every database."""

    code = "INVALID_PAYLOAD"

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path or 'the value'}: {problem}")


class PayloadTooLarge(InvalidPayload):
    """A value is larger than ``MAX_PAYLOAD_BYTES``."""

    code = "PAYLOAD_TOO_LARGE"

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            what,
            f"{size:,} bytes of JSON, the limit is {limit:,} (setting MAX_PAYLOAD_BYTES); "
            "store large data as an artifact and pass its key",
        )


class InvalidTransition(WorkflowEngineError):
    """The run or stage is in a status that this command cannot leave."""

    code = "INVALID_TRANSITION"


class NotWaiting(InvalidTransition):
    """The stage does not wait for this answer, or not any more."""

    code = "NOT_WAITING"

    def __init__(self, stage_id: str, why: str) -> None:
        self.stage_id = stage_id
        super().__init__(f"Stage {stage_id!r} does not wait for this answer: {why}.")


class AlreadyAnswered(InvalidTransition):
    """The wait has its answer; the first one counts."""

    code = "ALREADY_ANSWERED"

    def __init__(self, stage_id: str, wait: str) -> None:
        self.stage_id, self.wait = stage_id, wait
        super().__init__(f"The wait {wait!r} of stage {stage_id!r} is answered already; the first answer counts.")


class StaleLease(WorkflowEngineError):
    """The worker no longer holds this attempt; whatever it wanted to write is refused."""

    code = "STALE_LEASE"


class MissingStageOutput(WorkflowEngineError):
    """A stage asked for an output that does not exist."""

    code = "MISSING_INPUT"

    def __init__(self, stage_id: str, available: Sequence[str]) -> None:
        self.stage_id, self.available = stage_id, tuple(available)
        super().__init__(
            f"Stage {stage_id!r} has no output here. Available: {', '.join(map(repr, available)) or 'none'}."
        )


class BlobNotFound(WorkflowEngineError):
    """The blob store has nothing under this key."""

    code = "BLOB_NOT_FOUND"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"The blob store has nothing under {key!r}.")


class BlobCorrupt(WorkflowEngineError):
    """A blob's bytes do not have the size or SHA-256 that were recorded when it was written."""

    code = "BLOB_CORRUPT"


class ProcessDied(WorkflowEngineError):
    """The process that ran the body of a stage with ``isolation="process"`` died; the text says of what."""

    code = "PROCESS_DIED"


class IdempotencyConflict(WorkflowEngineError):
    """The idempotency key was used before, for other content."""

    code = "IDEMPOTENCY_CONFLICT"

    def __init__(self, command_type: str) -> None:
        super().__init__(
            f"This idempotency key was already used for another {command_type} command. "
            "Repeat the first content, or choose a new key."
        )


class IdempotencyInProgress(WorkflowEngineError):
    """Another transaction holds this idempotency key and has not ended yet; try again later."""

    code = "IDEMPOTENCY_IN_PROGRESS"

    def __init__(self, command_type: str, seconds: float) -> None:
        super().__init__(
            f"Another {command_type} with this idempotency key is still in its transaction after {seconds:g} s "
            "(setting IDEMPOTENCY_WAIT_SECONDS). Try again."
        )


class WaitTimeout(WorkflowEngineError):
    """The run had not ended within the time that the caller wanted to wait; it goes on."""

    code = "WAIT_TIMEOUT"

    def __init__(self, run_id: object, seconds: float) -> None:
        self.run_id = run_id
        super().__init__(f"Run {run_id} has not ended within {seconds:g} s. It goes on; ask for it again later.")


class DatabaseConflict(WorkflowEngineError):
    """A deadlock, lock timeout or serialization failure: repeat the whole transaction."""

    code = "DATABASE_CONFLICT"


class DatabaseUnavailable(WorkflowEngineError):
    """The database cannot be reached; nothing was written by this call. Try again later."""

    code = "DATABASE_UNAVAILABLE"


def field_errors(error: Any, prefix: str = "") -> list[FieldError]:
    """Turn a pydantic ``ValidationError`` into field errors that never repeat a value."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join([prefix, *map(str, item["loc"])] if prefix else map(str, item["loc"]))
        found.append(FieldError(path, item["msg"], item["type"]))
    return found
