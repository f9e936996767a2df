"""Finishing one attempt after the other, each in a transaction of its own, by a thread that never waits for a run."""

from __future__ import annotations

import logging
import threading
from collections import deque

from django.db import DataError, Error, IntegrityError, connections

from workflow_engine.definitions.results import Failed, StageError
from workflow_engine.errors import PayloadTooLarge, WorkflowEngineError
from workflow_engine.executors.attempts import describe
from workflow_engine.executors.held import Held
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Finished, FinishStages

from .ended import Bodies, Ended, Supply, say_if_refused

logger = logging.getLogger(__name__)
# What cannot be stored yet is tried again and again, ever more seldom.
HELD_UP_SECONDS, STOP_SECONDS = 0.02, 5.0
NOT_STORED = "RESULT_NOT_STORED"


class AloneFinisher:
    """Finishes what cannot be finished together with others: failures, results with files, runs that somebody holds.

    A result is kept while its run is held or the database is away; whether it still counts the token decides.
    """

    def __init__(self, kernel: Kernel, bodies: Bodies, supply: Supply) -> None:
        self._kernel, self._bodies, self._supply = kernel, bodies, supply
        self._ended: deque[Ended] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._stopping = False

    def add(self, ended: Ended) -> None:
        with self._changed:
            self._ended.append(ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wfe-finish", daemon=True)
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """End the thread; what it has left was given back."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(STOP_SECONDS)

    def _run(self) -> None:
        held_up = 0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._stopping)
                    if self._stopping:
                        return
                    ended = self._ended.popleft()
                if self._finish(ended):
                    held_up = 0
                    continue
                # Its run is held, or the database is away: the others have their turn meanwhile.
                with self._changed:
                    self._ended.append(ended)
                    held_up += 1
                    rounds = held_up // len(self._ended)
                    if rounds:
                        self._changed.wait_for(lambda: self._stopping, HELD_UP_SECONDS * 2 ** min(rounds, 6))
        finally:
            connections.close_all()

    def _finish(self, ended: Ended) -> bool:
        """Finish one attempt; False: not yet."""
        held = ended.held
        followings: list[Held] = []
        if held.timed_out or not held.lost.is_set():
            try:
                finished = self._store(ended)
            except Exception:
                logger.exception("result lost run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
                finished = Finished(held.stage.stage_run_id, "ghost")
            if finished is None:
                return False
            say_if_refused(held.stage, finished)
            if finished.kind == "suspended" or finished.tells:
                self._supply.stage_suspended()
            followings = [self._bodies.make(started, held) for started in finished.next]
        self._bodies.launch(self._bodies.settle([held], followings))
        self._bodies.spread()
        tidy_connections()
        return True

    def _store(self, ended: Ended) -> Finished | None:
        """Store the result; None: its run is held, or the database is away."""
        outcome, stage = ended.outcome(), ended.held.stage
        starter = self._supply.continue_with([ended.held]) if outcome.may_go_on else None
        command = FinishStages(outcomes=(outcome,), starter=starter, again=True, wait=False)
        try:
            finished = self._kernel.dispatch(command, causation_id=ended.causation_id).finished
            return finished[0] if finished else None
        # Only what depends on the result is final; whatever else the database says may pass.
        except (DataError, IntegrityError, ValueError, TypeError, PayloadTooLarge) as error:
            if isinstance(ended.result, Failed) and ended.result.error.code == NOT_STORED:
                raise
            logger.exception("result cannot be stored run=%s stage=%s", stage.run_id, stage.stage_id)
            details = describe(error)
            refused = StageError(NOT_STORED, details.kind, details.message, details.traceback)
            ended.result = Failed(refused, None)
            return self._store(ended)
        except (Error, WorkflowEngineError) as error:
            tidy_connections()
            if not ended.warned:
                ended.warned = True
                logger.warning("result kept for later run=%s error=%s", stage.run_id, error)
            return None
