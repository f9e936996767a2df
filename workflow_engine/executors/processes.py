"""Bodies in processes of their own, for stages with ``isolation="process"``."""

from __future__ import annotations

import time
from typing import Any

from workflow_engine.definitions.results import Notes, Result, RunCancelledError
from workflow_engine.definitions.retry import Retry
from workflow_engine.definitions.stages import Stage
from workflow_engine.errors import ProcessDied
from workflow_engine.kernel.ports import Ports

from .attempts import failure, timed_out
from .children import Child, Children
from .held import Held
from .wire import result_from_json, started_as_json

BODIES_PER_CHILD = 100


class ProcessExecutor:
    """Runs each body in a child process that is killed at the stage's deadline, and may die without harm to others.

    Children are kept warm and used again, one body at a time. They load the project by its settings module, and write
    log lines, progress and artifacts themselves. ``run`` occupies the calling thread.
    """

    def __init__(self, ports: Ports, *, bodies_per_child: int = BODIES_PER_CHILD) -> None:
        self._ports = ports
        self._children = Children(bodies_per_child)

    def run(self, held: Held) -> Result:
        """Return what became of the body; never raises for what it does.

        The stage's timeout is counted from the moment at which the body can begin: ``held.deadline`` is set then.
        """
        retry, held.deadline = Retry(), None
        try:
            started = held.stage
            stage = self._ports.registry.get_workflow(started.workflow_id).get_stage(started.stage_id)
            retry = stage.retry
            return self._run(held, stage)
        except ProcessDied as error:
            # Where we noticed it says nothing about the body.
            return failure(error.with_traceback(None), retry, held, Notes())
        except (Exception, RunCancelledError) as error:
            return failure(error, retry, held, Notes())

    def stop(self) -> None:
        """End idle children, and kill those that still run a body."""
        self._children.stop()

    def _run(self, held: Held, stage: Stage[Any, Any, Any]) -> Result:
        held.check()
        child = self._begin(held)
        try:
            if stage.timeout is not None:
                held.deadline = time.monotonic() + stage.timeout.total_seconds()
            answer = child.result(held.check, held.deadline)
        except BaseException:
            self._children.discard(child)
            raise
        if answer is None:
            held.timed_out = True
            self._children.discard(child)
            return timed_out(stage, held)
        self._children.give_back(child)
        return result_from_json(answer)

    def _begin(self, held: Held) -> Child:
        """Return a child that has begun. Raises ``ProcessDied``, ``RunCancelledError``."""
        request = started_as_json(held.stage)
        while True:
            child = self._children.take(held.check)
            was_warm = child.bodies > 0
            try:
                child.begin(request, held.check)
                return child
            except ProcessDied:
                self._children.discard(child)
                # Its end has nothing to do with this body, which has not begun.
                if not was_warm:
                    raise
            except BaseException:
                self._children.discard(child)
                raise
