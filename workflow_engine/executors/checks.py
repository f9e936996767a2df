"""Making one completion check: the context, the function, what it found."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import ValidationError

from workflow_engine.definitions.results import (
    CheckResult,
    Failed,
    Notes,
    RunCancelledError,
    StageError,
    StageSuspended,
    StillPending,
)
from workflow_engine.definitions.retry import Retry
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.waits import Check, Completion
from workflow_engine.errors import InvalidDefinition, InvalidInput, ProcessDied, field_errors
from workflow_engine.kernel import points
from workflow_engine.kernel.checked import ClaimedCheck
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact_text

from .attempts import MAX_MESSAGE, Attempt, failure
from .children import Child, Children
from .held import Held
from .recorder import Recorder
from .tidying import BlockingCalls, lending
from .wire import check_as_json, check_result_from_json

CALL_THREADS = 2


class CheckExecutor:
    """Makes checks in the calling thread, plain and ``async`` ones. Never raises for what a check does."""

    def __init__(self, ports: Ports, recorder: Recorder) -> None:
        self._ports, self._recorder = ports, recorder

    def run(self, check: ClaimedCheck, held: Held) -> CheckResult:
        """Return what the check found; errors are tried again by the stage's ``check_retry``."""
        attempt, policy = Attempt(self._ports, held, self._recorder, checks=True), Retry()
        try:
            policy = attempt.stage.check_retry
            definition = attempt.stage.check
            if definition is None:
                raise InvalidDefinition(f"Stage {attempt.stage.id!r} has no completion check any more.")
            context, state = attempt.open(), self._state(definition, check, attempt.stage)
            found = _call(definition, context, state)
            return self._result(attempt, found)
        except points.Crash:
            raise
        except StageSuspended:
            problem = f"The completion check of stage {held.stage.stage_id!r} cannot wait: return Completion.pending()."
            return failure(InvalidDefinition(problem), policy, held, attempt.notes())
        except BaseException as error:
            return failure(error, policy, held, attempt.notes())

    def _state(self, definition: Check, check: ClaimedCheck, stage: Stage[Any, Any, Any]) -> Any:
        envelope = Envelope(check.state)
        try:
            return definition.state.read(envelope.raw(self._ports.blobs)) if envelope else None
        except ValidationError as error:
            raise InvalidInput(f"the check of stage {stage.id!r} (state)", field_errors(error)) from error

    def _result(self, attempt: Attempt, found: Any) -> CheckResult:
        if not isinstance(found, Completion):
            raise TypeError(
                f"the completion check of stage {attempt.stage.id!r} must return Completion.ready(…), .pending() or "
                f".failed(…), got {type(found).__name__}"
            )
        if found.kind == "ready":
            return attempt.complete(attempt.check(found.output))
        if found.kind == "pending":
            return StillPending(found.next_check_in, attempt.notes())
        reason = scrub(redact_text(found.reason))[:MAX_MESSAGE]
        return Failed(StageError("CHECK_FAILED", "", reason), None, attempt.notes())


def _call(definition: Check, context: Any, state: Any) -> Any:
    if not definition.is_async:
        return definition.body(context, state)
    with lending() as lent:
        calls = BlockingCalls(threads=CALL_THREADS, orm=1, lent=lent)

        async def main() -> Any:
            calls.serve(asyncio.get_running_loop())
            calls.adopt_task()
            return await definition.body(context, state)

        try:
            return asyncio.run(main())
        finally:
            calls.close()


class IsolatedChecks:
    """Makes checks in child processes: for stages whose check may have killed a worker."""

    def __init__(self, ports: Ports) -> None:
        self._ports, self._children = ports, Children(1)

    def run(self, check: ClaimedCheck, held: Held) -> CheckResult:
        policy = Retry()
        try:
            stage = self._ports.registry.get_workflow(held.stage.workflow_id).get_stage(held.stage.stage_id)
            policy = stage.check_retry
            timeout = None if stage.check is None else stage.check.timeout
            child = self._children.take(held.check)
            try:
                child.begin(check_as_json(check), held.check)
                answer = child.result(held.check, _deadline(timeout))
            except BaseException:
                self._children.discard(child)
                raise
            return self._answer(child, answer, policy, held)
        except (Exception, RunCancelledError) as error:
            return failure(error.with_traceback(None), policy, held, Notes())

    def _answer(self, child: Child, answer: dict[str, Any] | None, policy: Retry, held: Held) -> CheckResult:
        if answer is None:
            self._children.discard(child)
            raise ProcessDied("the completion check took longer than its timeout, and its process was killed")
        self._children.give_back(child)
        return check_result_from_json(answer)

    def stop(self) -> None:
        self._children.stop()


def _deadline(timeout: Any) -> float | None:
    return None if timeout is None else time.monotonic() + timeout.total_seconds()
