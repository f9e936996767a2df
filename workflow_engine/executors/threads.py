"""Run a stage's body in the calling thread and say what became of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from typing import Any

from pydantic import ValidationError

from workflow_engine.definitions.context import StageContext, StageFacts
from workflow_engine.definitions.results import Completed, Failed, Notes, Result, RunCancelledError, StageError
from workflow_engine.definitions.retry import Retry
from workflow_engine.definitions.stages import Stage
from workflow_engine.errors import InvalidConfig, InvalidInput, InvalidOutput, WorkflowEngineError, field_errors
from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import ValueMismatch, pack, scrub, write
from workflow_engine.kernel.ports import Ports

from .desk import Desk
from .held import Held
from .recorder import Recorder
from .storage import attempt_root

logger = logging.getLogger(__name__)
MAX_MESSAGE, MAX_TRACEBACK = 2_000, 8_000


class ThreadExecutor:
    """Runs plain and ``async def`` bodies, one per thread. Never raises for what a body does."""

    def __init__(self, ports: Ports, recorder: Recorder) -> None:
        self._ports, self._recorder = ports, recorder

    def run(self, held: Held) -> Result:
        """Load the input, run the body, check and store the output; no transaction is open meanwhile."""
        desk = Desk(self._ports, held, self._recorder)
        policy = Retry()
        try:
            stage = self._ports.registry.get_workflow(held.stage.workflow_id).get_stage(held.stage.stage_id)
            policy = stage.retry
            context = self._context(stage, held, desk)
            points.hit(points.EXEC_CLAIMED)
            output = self._call(stage, context)
            points.hit(points.EXEC_RETURNED)
            return Completed(self._pack(stage, held, output), desk.notes())
        except points.Crash:
            raise
        # A body may call sys.exit, be cancelled, or panic in Rust code: no reason for the worker to end.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            return failure(error, policy, held, desk.notes())

    def _context(self, stage: Stage[Any, Any, Any], held: Held, desk: Desk) -> StageContext[Any, Any]:
        started = held.stage
        facts = StageFacts(
            run_id=started.run_id,
            workflow_id=started.workflow_id,
            stage_id=started.stage_id,
            stage_name=stage.name,
            stage_number=started.stage_number,
            attempt=started.attempt,
            generation=started.generation,
            item_index=None if started.map_index < 0 else started.map_index,
            metadata=started.metadata,
        )
        where = f"stage {stage.id!r}"
        value = None
        if stage.takes_input:
            try:
                value = stage.signature.input.read(started.input.raw(self._ports))
            except ValidationError as error:
                raise InvalidInput(where, field_errors(error)) from error
        config = None
        if stage.signature.config.type is not None:
            try:
                config = stage.signature.config.adapter.validate_python(dict(started.config))
            except ValidationError as error:
                raise InvalidConfig(where, field_errors(error, stage.id)) from error
        return StageContext(facts, value, config, desk)

    def _call(self, stage: Stage[Any, Any, Any], context: StageContext[Any, Any]) -> Any:
        if stage.is_async:
            return asyncio.run(stage.body(context))
        return stage.body(context)

    def _pack(self, stage: Stage[Any, Any, Any], held: Held, output: Any) -> dict[str, Any]:
        try:
            data = write(stage.signature.output, output)
        except ValueMismatch as error:
            raise InvalidOutput(f"stage {stage.id!r}", error.errors) from error
        root = attempt_root(held.stage)
        what = f"the output of stage {stage.id!r}"
        return pack(data, lambda digest: f"{root}output-{digest}.json", self._ports.blobs, self._ports.limits, what)


def failure(error: BaseException, policy: Retry, held: Held, notes: Notes) -> Failed:
    """Say why the attempt failed, and whether and when there is another one."""
    retry_in = policy.delay_after(error, held.stage.failures + 1)
    if isinstance(error, RunCancelledError | InvalidConfig):
        retry_in = None
    return Failed(describe(error), retry_in, notes)


def describe(error: BaseException) -> StageError:
    """Return the error as it is stored: cut to size, and such that every database takes it."""
    code = error.code if isinstance(error, WorkflowEngineError) else "STAGE_FAILED"
    try:
        message = str(error)
    except Exception as broken:
        message = f"(the exception cannot be shown: {type(broken).__name__})"
    lines = "".join(traceback.format_exception(error))
    if len(lines) > MAX_TRACEBACK:
        lines = f"{lines[: MAX_TRACEBACK // 2]}\n…\n{lines[-MAX_TRACEBACK // 2 :]}"
    return StageError(code, type(error).__qualname__, scrub(message)[:MAX_MESSAGE], scrub(lines))
