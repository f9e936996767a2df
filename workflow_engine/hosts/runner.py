"""Running started stages one after the other in a pool thread: body, finish, and on to the next."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from django.db import InterfaceError, OperationalError

from workflow_engine.definitions.results import Failed, Notes, Result, StageError
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import ThreadExecutor, describe, failure
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Finished, FinishStages, Outcome
from workflow_engine.kernel.started import StartedStage

from .pool import tidy_connections

logger = logging.getLogger(__name__)
# A thread goes on with the same run for this long; then waiting work of higher rank has its turn.
CHAIN_STAGES, CHAIN_SECONDS = 100, 2.0


class Runner:
    """Runs attempts and finishes them. ``starter`` says with what the worker may go on, None: with nothing."""

    def __init__(
        self, kernel: Kernel, held: HeldStages, recorder: Recorder, lease: Lease, starter: Callable[[], Starter | None]
    ) -> None:
        self._kernel, self._held, self._recorder, self._lease = kernel, held, recorder, lease
        self._starter = starter
        self._executor = ThreadExecutor(kernel.ports, recorder)
        self._threads: dict[int, threading.Thread] = {}
        self.finished = 0

    def hold(self, started: StartedStage) -> Held:
        """Note that this process holds the attempt, before anything else can happen to it."""
        held = self._make(started)
        self._held.add(held)
        return held

    def run(self, held: Held | None) -> None:
        """Run the attempt, and the stages that follow it while this thread may go on with them."""
        began, count = time.monotonic(), 0
        while held is not None:
            count += 1
            may_go_on = count < CHAIN_STAGES and time.monotonic() - began < CHAIN_SECONDS
            held = self._run_one(held, may_go_on)

    def thread_of(self, held: Held) -> threading.Thread | None:
        return self._threads.get(id(held))

    def time_out(self, held: Held) -> None:
        """Fence off an attempt whose body is over its time; whatever it still does is dropped."""
        stage = self._kernel.ports.registry.get_workflow(held.stage.workflow_id).get_stage(held.stage.stage_id)
        error = TimeoutError(f"the body took longer than its timeout of {stage.timeout}")
        failed = failure(error, stage.retry, held, Notes())
        error_data = StageError("TIMEOUT", "TimeoutError", failed.error.message)
        held.lost.set()
        try:
            self._finish(held, Failed(error_data, failed.retry_in), may_go_on=False)
        finally:
            self._held.remove(held)
        logger.warning("stage timed out run=%s stage=%s", held.stage.run_id, held.stage.stage_id)

    def _run_one(self, held: Held, may_go_on: bool) -> Held | None:
        self._threads[id(held)] = threading.current_thread()
        following: Held | None = None
        try:
            if held.lost.is_set():
                # Given away while it waited for this thread.
                return None
            result = self._executor.run(held)
            # Before the finish: in a transaction that the body left open it would never be committed.
            tidy_connections()
            if held.lost.is_set():
                logger.info("result dropped run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
                return None
            self._recorder.flush()
            finished = self._finish(held, result, may_go_on)
            if finished is not None and finished.next:
                following = self._make(finished.next[0])
                self._held.replace(held, following)
            return following
        finally:
            self._threads.pop(id(held), None)
            self.finished += 1
            if following is None:
                self._held.remove(held)

    def _make(self, started: StartedStage) -> Held:
        stage = self._kernel.ports.registry.get_workflow(started.workflow_id).get_stage(started.stage_id)
        deadline = None if stage.timeout is None else time.monotonic() + stage.timeout.total_seconds()
        return Held(started, self._lease, deadline)

    def _finish(self, held: Held, result: Result, may_go_on: bool) -> Finished | None:
        """Store the result; while the database is away, keep it and try again for as long as the attempt is ours."""
        outcome = Outcome(held.stage, result, timedelta(seconds=time.monotonic() - held.began))
        tries, causation_id = 0, uuid.uuid4()
        while True:
            starter = self._starter() if may_go_on else None
            command = FinishStages(outcomes=(outcome,), starter=starter, again=tries > 0)
            try:
                return self._kernel.dispatch(command, causation_id=causation_id).finished[0]
            # Any operational error: the server, the network, the disk. Only what depends on the result is final.
            except (DatabaseUnavailable, DatabaseConflict, OperationalError, InterfaceError) as error:
                tidy_connections()
                tries += 1
                if tries == 1:
                    logger.warning("result kept for later run=%s error=%s", held.stage.run_id, error)
                if self._lease.is_over:
                    return None
                self._kernel.ports.clock.pause(min(0.1 * 2**tries, 5))
            except Exception as error:
                if outcome.result is not result:
                    raise
                logger.exception("result cannot be stored run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
                details = describe(error)
                refused = StageError("RESULT_NOT_STORED", details.kind, details.message, details.traceback)
                outcome = Outcome(held.stage, Failed(refused, None), outcome.elapsed)
