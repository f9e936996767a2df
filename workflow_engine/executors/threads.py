"""Run a stage's body in the calling thread and say what became of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from workflow_engine.definitions.context import StageContext
from workflow_engine.definitions.results import Result
from workflow_engine.definitions.stages import Stage
from workflow_engine.kernel import points
from workflow_engine.kernel.ports import Ports

from .attempts import Attempt, describe, failure
from .expanding import expand
from .held import Held
from .recorder import Recorder
from .tidying import BlockingCalls, lending

CALL_THREADS = 4
__all__ = ["ThreadExecutor", "describe", "failure"]


class ThreadExecutor:
    """Runs plain and ``async def`` bodies, one per thread. Never raises for what a body does."""

    def __init__(self, ports: Ports, recorder: Recorder) -> None:
        self._ports, self._recorder = ports, recorder

    def run(self, held: Held) -> Result:
        """Load the input, run the body, check and store the output; no transaction is open meanwhile."""
        attempt = Attempt(self._ports, held, self._recorder)
        try:
            if held.stage.expands:
                return expand(self._ports, attempt)
            context = attempt.open()
            if attempt.stage.is_async and held.stage.attempt > 1:
                # Here, and not in the thread of some blocking call, which may not see the caller's transaction.
                attempt.recall()
            return attempt.complete(attempt.check(_call(attempt.stage, context)))
        except points.Crash:
            raise
        # A body may call sys.exit, be cancelled, or panic in Rust code: no reason for the worker to end.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            return attempt.ended_by(error)


def _call(stage: Stage[Any, Any, Any], context: StageContext[Any, Any]) -> Any:
    if not stage.is_async:
        return stage.body(context)
    # Hosts that have no loop run the body in one of its own.
    with lending() as lent:
        calls = BlockingCalls(threads=CALL_THREADS, orm=1, lent=lent)
        try:
            return asyncio.run(_call_async(stage, context, calls))
        finally:
            calls.close()


async def _call_async(stage: Stage[Any, Any, Any], context: StageContext[Any, Any], calls: BlockingCalls) -> Any:
    calls.serve(asyncio.get_running_loop())
    calls.adopt_task()
    return await stage.body(context)
