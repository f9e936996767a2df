"""What every executor does with an attempt: its context before the body, its outcome after it."""

from __future__ import annotations

import traceback
from functools import cached_property
from typing import Any, cast

from pydantic import ValidationError

from workflow_engine.definitions.context import StageContext
from workflow_engine.definitions.desk import StageFacts
from workflow_engine.definitions.results import (
    Completed,
    Failed,
    Notes,
    Result,
    RunCancelledError,
    StageError,
    StageSuspended,
    Suspended,
)
from workflow_engine.definitions.retry import Retry
from workflow_engine.definitions.stages import Stage
from workflow_engine.errors import InvalidConfig, InvalidInput, InvalidOutput, WorkflowEngineError, field_errors
from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import ValueMismatch, pack, scrub, write
from workflow_engine.kernel.ports import BlobStore, Ports
from workflow_engine.redaction import redact_text

from .desk import Desk
from .held import Held
from .patience import patiently
from .recorder import Recorder
from .storage import attempt_root

MAX_MESSAGE, MAX_TRACEBACK = 2_000, 8_000


class Attempt:
    """One try of a stage's body, in steps: ``open``, the body, ``check`` and ``complete``; or ``failed``."""

    def __init__(self, ports: Ports, held: Held, recorder: Recorder, *, checks: bool = False) -> None:
        """``checks``: it is the completion check of a suspended stage."""
        self.held = held
        self._ports = ports
        self._desk = Desk(ports, held, recorder, checks=checks)
        self._retry = Retry()

    @cached_property
    def stage(self) -> Stage[Any, Any, Any]:
        """The definition. Raises ``WorkflowNotFound``, ``StageNotFound``."""
        started = self.held.stage
        stage = self._ports.registry.get_workflow(started.workflow_id).get_stage(started.stage_id)
        self._retry = stage.retry
        return stage

    @property
    def reads_blobs(self) -> bool:
        """Whether ``open`` reads from the blob store, or results of items from the database."""
        envelopes = self.held.stage.input.envelopes.values()
        return any(envelope and ("blob" in envelope or "items" in envelope) for envelope in envelopes)

    def open(self) -> StageContext[Any, Any]:
        """Load and check input and config. Raises ``InvalidInput``, ``InvalidConfig``, ``MissingStageOutput``."""
        context = StageContext(self._facts(), self._input(), self._config(), self._desk)
        points.hit(points.EXEC_CLAIMED)
        return context

    def check(self, output: Any) -> Any:
        """Return what the body returned as the JSON that is stored for it. Raises ``InvalidOutput``."""
        points.hit(points.EXEC_RETURNED)
        try:
            return write(self.stage.signature.output, output)
        except ValueMismatch as error:
            raise InvalidOutput(f"stage {self.stage.id!r}", error.errors) from error

    def complete(self, data: Any) -> Completed:
        """Store what ``check`` returned, in the blob store if it is large. Raises ``PayloadTooLarge``."""
        return self._complete(data, self._ports.blobs)

    def complete_inline(self, data: Any) -> Completed | None:
        """Do as ``complete`` without any I/O; None: it is too large for that."""
        try:
            return self._complete(data, cast(BlobStore, _Nowhere()))
        except _TooLarge:
            return None

    def _complete(self, data: Any, blobs: BlobStore) -> Completed:
        root = attempt_root(self.held.stage)
        what = f"the output of stage {self.stage.id!r}"
        envelope = pack(data, lambda digest: f"{root}output-{digest}.json", blobs, self._ports.limits, what)
        return Completed(envelope, self._desk.notes())

    def ended_by(self, error: BaseException) -> Result:
        """Say what an attempt came to that ended by an exception: it waits, or it failed."""
        waits = _wait_in(error)
        return self.failed(error) if waits is None else Suspended(waits.suspension, self._desk.notes())

    def recall(self) -> None:
        """Read now what the stage remembers of earlier attempts; else that is read when it is first needed."""
        self._desk.recall_all()

    def notes(self) -> Notes:
        """Return what the body has left so far."""
        return self._desk.notes()

    def failed(self, error: BaseException) -> Failed:
        """Say why the attempt failed, and whether and when there is another one."""
        return failure(error, self._retry, self.held, self._desk.notes())

    def _facts(self) -> StageFacts:
        started = self.held.stage
        return StageFacts(
            run_id=started.run_id,
            workflow_id=started.workflow_id,
            stage_id=started.stage_id,
            stage_name=self.stage.name,
            stage_number=started.stage_number,
            attempt=started.attempt,
            generation=started.generation,
            item_index=None if started.map_index < 0 else started.map_index,
            metadata=started.metadata,
        )

    def _input(self) -> Any:
        if not self.stage.takes_input:
            return None
        try:
            return self.stage.signature.input.read(self.raw_input())
        except ValidationError as error:
            raise InvalidInput(f"stage {self.stage.id!r}", field_errors(error)) from error

    def raw_input(self) -> bytes:
        """Load the input as JSON text; a database that is away is waited for. Raises ``MissingStageOutput``."""
        return patiently(self._ports, self.held, lambda: self.held.stage.input.raw(self._ports))

    def _config(self) -> Any:
        config = self.stage.signature.config
        if config.type is None:
            return None
        try:
            return config.adapter.validate_python(dict(self.held.stage.config))
        except ValidationError as error:
            raise InvalidConfig(f"stage {self.stage.id!r}", field_errors(error, self.stage.id)) from error


def _wait_in(error: BaseException) -> StageSuspended | None:
    """Return what a body waits for; of tasks in a ``TaskGroup`` that all wait, what the first one does."""
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, StageSuspended) else None
    waits = [_wait_in(inner) for inner in error.exceptions]
    return None if None in waits else waits[0]


class _TooLarge(Exception):
    """The value goes to the blob store."""


class _Nowhere:
    def put(self, key: str, data: bytes) -> str:
        raise _TooLarge


def failure(error: BaseException, policy: Retry, held: Held, notes: Notes) -> Failed:
    """Say why the attempt failed, and whether and when there is another one."""
    retry_in = policy.delay_after(error, held.stage.failures + 1)
    if isinstance(error, RunCancelledError | InvalidConfig):
        retry_in = None
    return Failed(describe(error), retry_in, notes)


def timed_out(stage: Stage[Any, Any, Any], held: Held) -> Failed:
    """Say that the body took longer than its stage's timeout; what it had noted until then is not kept."""
    error = TimeoutError(f"the body took longer than its timeout of {stage.timeout}")
    failed = failure(error, stage.retry, held, Notes())
    return Failed(StageError("TIMEOUT", "TimeoutError", failed.error.message), failed.retry_in)


def describe(error: BaseException) -> StageError:
    """Return the error as it is stored: secrets masked, cut to size, and such that every database takes it."""
    code = error.code if isinstance(error, WorkflowEngineError) else "STAGE_FAILED"
    try:
        message = str(error)
    except Exception as broken:
        message = f"(the exception cannot be shown: {type(broken).__name__})"
    lines = redact_text("".join(traceback.format_exception(error)))
    if len(lines) > MAX_TRACEBACK:
        lines = f"{lines[: MAX_TRACEBACK // 2]}\n…\n{lines[-MAX_TRACEBACK // 2 :]}"
    return StageError(code, type(error).__qualname__, scrub(redact_text(message))[:MAX_MESSAGE], scrub(lines))
