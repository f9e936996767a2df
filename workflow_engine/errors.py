"""Every error the engine raises on purpose.

.. code-block:: text

    WorkflowEngineError
    ├── InvalidDefinition           a stage or workflow is written wrongly (import or build time)
    │   └── DuplicateWorkflow       the id is registered already
    ├── WorkflowNotFound  StageNotFound  RunNotFound  BulkOperationNotFound  ScheduleNotFound  WebhookNotFound
    ├── InvalidInput  InvalidConfig  InvalidOutput
    ├── InvalidPayload              a value that cannot be stored as JSON and read back
    │   └── PayloadTooLarge
    ├── TooManyItems                a map would have more items than MAX_MAP_ITEMS
    ├── ChildFailed                 a run that a stage has started did not complete
    ├── ChildTooDeep                runs start runs without an end
    ├── InvalidTransition           the run or stage is in a status that a command cannot leave
    │   ├── NotWaiting              the stage does not wait for this answer
    │   ├── AlreadyAnswered         somebody else was quicker
    │   └── AlreadyScheduled        another command waits under this correlation id
    ├── StaleLease  MissingStageOutput  BlobNotFound
    ├── ProcessDied                 the process of a stage with isolation="process" died
    ├── IdempotencyConflict  IdempotencyInProgress
    ├── WaitTimeout
    ├── ExtraMissing                a library that is optional is needed for this
    ├── DatabaseConflict            repeat the whole transaction
    └── DatabaseUnavailable         try again later

Each carries ``code``, a constant for programs; the text is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class DuplicatePlugin(InvalidDefinition):
    """Another plugin of this name is registered already."""

    code = "DUPLICATE_PLUGIN"


class SubscriberNotFound(WorkflowEngineError):
    """No plugin, sink or webhook of this name hears of events in this process."""

    code = "SUBSCRIBER_NOT_FOUND"

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        self.name = name
        super().__init__(f"No subscriber {name!r} is known here. Known: {', '.join(known) or 'none'}.")


class DeliveryTimeout(WorkflowEngineError):
    """A plugin or sink did not return in time; the event counts as not delivered."""

    code = "DELIVERY_TIMEOUT"


class DeliveryRefused(WorkflowEngineError):
    """A subscriber did not take an event, and it is known when to come again.

    Args:
        after: seconds; this event is not tried again before. Up to an hour.
        rest: seconds; nothing is delivered to this subscriber before. Up to an hour.
        counts: whether it was a try of the event. If not, there is a rest.
    """

    code = "DELIVERY_REFUSED"
    longest: ClassVar[float] = 3600.0

    def __init__(self, text: str, *, after: float = 0.0, rest: float = 0.0, counts: bool = True) -> None:
        least = 0.0 if counts else 0.1
        self.after, self.rest = (min(self.longest, max(least, seconds)) for seconds in (after, rest))
        self.counts = counts
        super().__init__(text)


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


class BulkOperationNotFound(WorkflowEngineError):
    """No bulk operation has this id."""

    code = "BULK_OPERATION_NOT_FOUND"

    def __init__(self, operation_id: object) -> None:
        self.operation_id = operation_id
        super().__init__(f"No bulk operation {str(operation_id)!r} exists.")


class ScheduleNotFound(WorkflowEngineError):
    """No schedule has this id or name."""

    code = "SCHEDULE_NOT_FOUND"

    def __init__(self, schedule: object) -> None:
        self.schedule = schedule
        super().__init__(f"No schedule {str(schedule)!r} exists.")


class WebhookNotFound(WorkflowEngineError):
    """No webhook has this id."""

    code = "WEBHOOK_NOT_FOUND"

    def __init__(self, endpoint_id: object) -> None:
        self.endpoint_id = endpoint_id
        super().__init__(f"No webhook {str(endpoint_id)!r} exists.")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a value: ``path`` is dotted (``stage.field.0``), empty for the value itself."""

    path: str
    message: str
    code: str = "invalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def shown(value: Any, most: int = 200) -> str:
    """Return what a value looks like, cut to ``most`` characters: for errors, so it never fails itself."""
    try:
        return repr(value)[:most]
    except Exception:
        # Nested too deeply, a number of too many digits, or somebody's own ``__repr__``.
        return f"<{type(value).__name__}>"


def as_text(value: Any) -> str:
    """Return ``str(value)``, or what it looks like if it has no text."""
    try:
        return str(value)
    except Exception:
        return shown(value)


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


class TooManyItems(WorkflowEngineError):
    """A map would have more items than allowed; no row was written."""

    code = "TOO_MANY_ITEMS"

    def __init__(self, stage_id: str, count: int, limit: int) -> None:
        self.stage_id, self.count, self.limit = stage_id, count, limit
        super().__init__(
            f"Stage {stage_id!r} would be mapped over {count:,} items, the limit is {limit:,} (setting MAX_MAP_ITEMS). "
            "Map over pages of them, or let each item be a child run that maps over its own."
        )


class ChildFailed(WorkflowEngineError):
    """A run that a stage has started with ``ctx.run_child`` failed or was cancelled.

    ``run_id`` and ``status`` say which and how; ``error`` is what the child's row has: ``{"code", "class", "message",
    "stage"}``, None for one that was cancelled.
    """

    code = "CHILD_FAILED"

    def __init__(self, workflow_id: str, run_id: object, status: str, error: Mapping[str, Any] | None) -> None:
        self.workflow_id, self.run_id, self.status, self.error = workflow_id, run_id, status, error
        text = f"Child run {run_id} of workflow {workflow_id!r} is {status}"
        if error:
            stage = f" in stage {error['stage']!r}" if error.get("stage") else ""
            text += f"{stage}: {error.get('class') or error.get('code')}: {error.get('message')}"
        super().__init__(f"{text}.")


class ChildTooDeep(WorkflowEngineError):
    """Runs would start runs more deeply than allowed: most likely workflows that start each other for ever."""

    code = "CHILD_TOO_DEEP"

    def __init__(self, workflow_id: str, depth: int, limit: int) -> None:
        self.workflow_id, self.depth, self.limit = workflow_id, depth, limit
        super().__init__(
            f"A child run of workflow {workflow_id!r} would be at depth {depth}, the limit is {limit} (setting "
            "MAX_CHILD_DEPTH). Do these workflows start each other without an end?"
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


class AlreadyScheduled(InvalidTransition):
    """Another command waits under this correlation id, or this one at another time."""

    code = "ALREADY_SCHEDULED"

    def __init__(self, correlation_id: str, command: str, run_at: object) -> None:
        self.correlation_id = correlation_id
        super().__init__(
            f"The correlation id {correlation_id!r} has a pending command: {command} at {run_at}. "
            "Cancel that first, or choose another id."
        )


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


class ExtraMissing(WorkflowEngineError):
    """A library that is optional is not installed, and needed for what was asked."""

    code = "EXTRA_MISSING"

    def __init__(self, what: str, library: str, extra: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(
            f"{what[:1].upper()}{what[1:]} need the library {library!r}, which is not installed. "
            f"Install it with the extra: pip install 'django-durable-workflows[{extra}]'"
        )


class DatabaseConflict(WorkflowEngineError):
    """A deadlock, lock timeout or serialization failure: repeat the whole transaction."""

    code = "DATABASE_CONFLICT"
    # Of ``create_runs``: what became of the requests in the chunks before, which are committed.
    done: Sequence[Any] = ()


class DatabaseUnavailable(WorkflowEngineError):
    """The database cannot be reached; nothing was written by this call. Try again later."""

    code = "DATABASE_UNAVAILABLE"
    # As of ``DatabaseConflict``.
    done: Sequence[Any] = ()


def field_errors(error: Any, prefix: str = "") -> list[FieldError]:
    """Turn a pydantic ``ValidationError`` into field errors that never repeat a value."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join([prefix, *map(str, item["loc"])] if prefix else map(str, item["loc"]))
        found.append(FieldError(path, item["msg"], item["type"]))
    return found
