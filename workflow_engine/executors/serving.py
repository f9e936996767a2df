"""What a child process does with an attempt that its parent holds."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.utils.module_loading import import_string

from workflow_engine.definitions.results import Notes, Result
from workflow_engine.kernel import Kernel

from .attempts import failure
from .checks import CheckExecutor
from .held import Held
from .recorder import Recorder, RecorderThread
from .threads import ThreadExecutor
from .tidying import tidy_connections
from .wire import check_from_json, check_result_as_json, result_as_json, started_from_json

KERNEL = "workflow_engine.bootstrap.get_kernel"
# Often: what a body said last before it killed its process is what one wants to know.
RECORD_SECONDS = 0.2


class Server:
    """Runs attempts in this process for another one. The project is loaded."""

    def __init__(self) -> None:
        # By name: executors stand below the module that puts the process's kernel together.
        kernel: Kernel = import_string(KERNEL)()
        self._registry = kernel.ports.registry
        self._recorder = Recorder(kernel.ports)
        self._executor = ThreadExecutor(kernel.ports, self._recorder)
        self._checks = CheckExecutor(kernel.ports, self._recorder)
        self._writer = RecorderThread(self._recorder.flush, RECORD_SECONDS)
        self._writer.start()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the body; its log lines are written when this returns."""
        if "check" in request:
            check = check_from_json(request)
            answer = check_result_as_json(self._checks.run(check, Held(check.stage)))
        else:
            answer = result_as_json(self._run(Held(started_from_json(request))))
        tidy_connections()
        self._recorder.flush()
        return answer

    def stop(self) -> None:
        self._writer.stop()
        connections.close_all()

    def _run(self, held: Held) -> Result:
        try:
            return self._executor.run(held)
        except KeyboardInterrupt as error:
            # Nobody presses keys here: the body raised it.
            stage = self._registry.get_workflow(held.stage.workflow_id).get_stage(held.stage.stage_id)
            return failure(error, stage.retry, held, Notes())
