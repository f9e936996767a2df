"""The lane of completion checks: threads of their own, so that slow checks hold up no stage, and no stage a check."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.db import DataError, Error, IntegrityError, connections

from workflow_engine.definitions.results import CheckResult, Failed, Notes, StageError
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.waits import CHECK_TIMEOUT
from workflow_engine.errors import PayloadTooLarge, WorkflowEngineError
from workflow_engine.executors.attempts import describe, failure
from workflow_engine.executors.checks import CheckExecutor, IsolatedChecks
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.commands import FinishChecks, PollSuspendedStages

from .alone import NOT_STORED
from .pool import ThreadPool

logger = logging.getLogger(__name__)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0


class CheckLane:
    """Claims due checks, as many as it has free threads, makes them and stores what they found.

    ``freed`` is called whenever a check has ended: another one may be due, or the same one sooner than anything else.
    ``tidy`` is called between a check and its finish, for the connections that a check leaves in a transaction.
    """

    def __init__(
        self,
        kernel: Kernel,
        worker_id: uuid.UUID,
        recorder: Recorder,
        lease: Lease | None,
        *,
        size: int,
        freed: Callable[[], None],
        queues: Sequence[str] | None = None,
        run_id: uuid.UUID | None = None,
        tidy: Callable[[], None] = tidy_connections,
    ) -> None:
        self._tidy = tidy
        self._kernel, self._worker_id, self._recorder, self._lease = kernel, worker_id, recorder, lease
        self._size, self._freed, self._run_id = size, freed, run_id
        self._queues = None if queues is None else tuple(queues)
        self._executor = CheckExecutor(kernel.ports, recorder)
        self._isolated: IsolatedChecks | None = None
        self.held = HeldStages()
        self._threads: dict[int, threading.Thread] = {}
        self._checks: dict[int, ClaimedCheck] = {}
        self._pool: ThreadPool | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Checks that have come to an end here.
        self.ended = 0

    @property
    def free(self) -> int:
        return max(0, self._size - len(self.held))

    @property
    def zombies(self) -> int:
        return 0 if self._pool is None else self._pool.zombies

    def take(self) -> int:
        """Claim what is due, as far as there are free threads, and begin with it; return how much."""
        if self._stopping.is_set() or self.free == 0 or (self._lease is not None and self._lease.is_over):
            return 0
        command = PollSuspendedStages(
            worker_id=self._worker_id, max=self.free, queues=self._queues, run_id=self._run_id
        )
        claimed = self._kernel.dispatch(command).claimed
        if claimed and self._pool is None:
            self._pool = ThreadPool(self._size)
        for check in claimed:
            held = Held(check.stage, self._lease)
            self.held.add(held)
            self._pool.submit(lambda check=check, held=held: self._run(check, held))  # type: ignore[union-attr, misc]
        return len(claimed)

    def look(self) -> None:
        """Fence off checks that are over their time; called twice a second."""
        now = time.monotonic()
        for held in self.held.all():
            thread = self._threads.get(id(held))
            if thread is None or held.timed_out or held.deadline is None or now <= held.deadline:
                continue
            held.timed_out = True
            logger.warning("check timed out run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
            if self._pool is not None:
                self._pool.give_up(thread)
                # Its own thread may hang for ever, so another one says so.
                self._pool.submit(lambda held=held: self._end_late(held))  # type: ignore[misc]

    def lose(self, stage_run_id: uuid.UUID, token: int) -> None:
        """Let go of a check whose token is void: nothing of it is kept."""
        held = self.held.get(stage_run_id, token)
        if held is not None:
            held.lost.set()

    def stop(self, seconds: float) -> None:
        """Take no more, and wait up to ``seconds`` for checks under way; what is left is given back by the worker."""
        self._stopping.set()
        self.held.wait_empty(timeout=seconds)
        for held in self.held.all():
            held.lost.set()
        if self._pool is not None:
            self._pool.stop()
        if self._isolated is not None:
            self._isolated.stop()

    def run(self, check: ClaimedCheck) -> None:
        """Make one check in the calling thread, and store what it found."""
        held = Held(check.stage, self._lease)
        self.held.add(held)
        self._run(check, held)

    def _run(self, check: ClaimedCheck, held: Held) -> None:
        self._threads[id(held)], self._checks[id(held)] = threading.current_thread(), check
        held.began = time.monotonic()
        try:
            result = self._made(check, held)
        except BaseException:
            # Nobody says what became of it: the next beats give it back.
            self._forget(held)
            raise
        finally:
            self._threads.pop(id(held), None)
        self._tidy()
        self._end(held, result)

    def _made(self, check: ClaimedCheck, held: Held) -> CheckResult:
        stage = self._definition(held)
        if check.suspect or stage.isolation == "process":
            # Its process is killed at the timeout.
            return self._child().run(check, held)
        if stage.check is not None:
            held.deadline = held.began + stage.check.timeout.total_seconds()
        return self._executor.run(check, held)

    def _end_late(self, held: Held) -> None:
        stage = self._definition(held)
        timeout = CHECK_TIMEOUT if stage.check is None else stage.check.timeout
        error = TimeoutError(f"the completion check took longer than its timeout of {timeout}")
        failed = failure(error, stage.check_retry, held, Notes())
        self._end(held, Failed(StageError("TIMEOUT", "TimeoutError", failed.error.message), failed.retry_in))

    def _end(self, held: Held, result: CheckResult) -> None:
        # Whoever is first: the check itself, or the watch that found it late.
        check = self._checks.pop(id(held), None)
        if check is None:
            return
        try:
            self._finish(CheckOutcome(check, result, timedelta(seconds=time.monotonic() - held.began)), held)
        finally:
            self._forget(held)
            self._tidy()

    def _forget(self, held: Held) -> None:
        self._checks.pop(id(held), None)
        with self._lock:
            self.ended += 1
        self.held.remove(held)
        self._freed()

    def _definition(self, held: Held) -> Stage[Any, Any, Any]:
        return self._kernel.ports.registry.get_workflow(held.stage.workflow_id).get_stage(held.stage.stage_id)

    def _child(self) -> IsolatedChecks:
        with self._lock:
            if self._isolated is None:
                self._isolated = IsolatedChecks(self._kernel.ports)
            return self._isolated

    def _finish(self, outcome: CheckOutcome, held: Held) -> None:
        """Store what was found; a database that is away is waited for. Whether it still counts the token decides."""
        self._recorder.flush()
        causation_id, wait = uuid.uuid4(), FIRST_WAIT_SECONDS
        while not held.lost.is_set():
            try:
                self._kernel.dispatch(FinishChecks(outcomes=(outcome,), again=True), causation_id=causation_id)
                return
            except (DataError, IntegrityError, ValueError, TypeError, PayloadTooLarge) as error:
                outcome = CheckOutcome(outcome.check, _not_stored(error, outcome.result), outcome.elapsed)
            except (Error, WorkflowEngineError) as error:
                if connections[self._kernel.ports.using].in_atomic_block:
                    # A transaction of the caller's, which does not get any better.
                    raise
                if wait == FIRST_WAIT_SECONDS:
                    logger.warning("result of a check kept for later run=%s error=%s", held.stage.run_id, error)
                self._tidy()
                if self._stopping.wait(wait):
                    return
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _not_stored(error: Exception, result: CheckResult) -> Failed:
    """Return a final failure in place of a result that the database refuses; raises if that is one already."""
    if isinstance(result, Failed) and result.error.code == NOT_STORED:
        raise error
    details = describe(error)
    return Failed(StageError(NOT_STORED, details.kind, details.message, details.traceback), None)
