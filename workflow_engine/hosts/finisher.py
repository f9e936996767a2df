"""Finishing: attempts that end at the same moment share one transaction."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import DataError, Error, IntegrityError, connections

from workflow_engine.definitions.results import Failed, Result, StageError
from workflow_engine.errors import PayloadTooLarge, WorkflowEngineError
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import describe
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Finished, FinishStages, Outcome
from workflow_engine.kernel.started import StartedStage
from workflow_engine.kernel.together import can_join

logger = logging.getLogger(__name__)
# A thread goes on with the same run for this long; then waiting work of higher rank has its turn.
CHAIN_STAGES, CHAIN_SECONDS = 100, 2.0
# Outcomes in one transaction.
MOST_TOGETHER = 100
# How long whoever finishes waits for short bodies that are about to end too.
LINGER_SECONDS = 0.0015
# Where waiting gained nothing, it is tried again only every so many times.
LINGER_AGAIN = 16
# Whose run is held by somebody is tried again with the next ones, and after that alone, waiting.
MOST_MISSED, MISSED_SECONDS = 5, 0.0005
# Alone, it is tried again and again, ever more seldom.
HELD_UP_SECONDS, STOP_SECONDS = 0.02, 5.0
NOT_STORED = "RESULT_NOT_STORED"


@dataclass(eq=False, slots=True)
class Ended:
    held: Held
    result: Result
    elapsed: timedelta
    causation_id: uuid.UUID = field(default_factory=uuid.uuid4)
    # Tries in which somebody held its run.
    missed: int = 0
    warned: bool = False

    def outcome(self) -> Outcome:
        held = self.held
        goes_on = held.chain < CHAIN_STAGES and time.monotonic() - held.chain_began < CHAIN_SECONDS
        return Outcome(held.stage, self.result, self.elapsed, may_go_on=goes_on)


class Finisher:
    """Stores results and says what follows.

    The first thread whose body has ended leads: it finishes what is queued, again and again until nothing is; the
    others only queue their result and are free. So the more ends at once, the more shares a transaction, and a single
    run never waits.
    """

    def __init__(
        self,
        kernel: Kernel,
        held: HeldStages,
        recorder: Recorder,
        lease: Lease,
        starter: Callable[[int, int], Starter | None],
        make: Callable[[StartedStage, Held], Held],
        launch: Callable[[Sequence[Held]], None],
        spread: Callable[[], None],
        submit: Callable[[Callable[[], None]], None],
        refill: Callable[[], int],
        settled: Callable[[], None],
    ) -> None:
        self._kernel, self._held, self._recorder, self._lease = kernel, held, recorder, lease
        self._starter, self._make, self._launch, self._submit = starter, make, launch, submit
        self._spread = spread
        self._refill, self._settled = refill, settled
        self._ended: deque[Ended] = deque()
        self._changed = threading.Condition(threading.Lock())
        # Taking and finishing touch the same runs: one at a time is quicker than leaving out what the other holds.
        self.turn = threading.Lock()
        self._leading = False
        self._in_vain, self._wanted = 0, 1
        self._alone: deque[Ended] = deque()
        self._alone_changed = threading.Condition(threading.Lock())
        self._alone_thread: threading.Thread | None = None
        self._alone_stopping = False
        self.finished = 0

    @property
    def is_leading(self) -> bool:
        return self._leading

    def finish(self, held: Held, result: Result) -> Held | None:
        """Finish the attempt, or leave it to the thread that is finishing others; return what to run in this one."""
        self._queue(held, result)
        return self._lead()

    def hand_over(self, held: Held, result: Result) -> None:
        """Let a thread of the pool finish the attempt; for callers that must not wait."""
        self._queue(held, result)
        if not self._leading:
            self._submit(self._lead_and_launch)

    def finish_alone(self, held: Held, result: Result) -> None:
        """Finish the attempt in a transaction of its own."""
        self._leave(Ended(held, result, timedelta(seconds=time.monotonic() - held.began)))

    def _queue(self, held: Held, result: Result) -> None:
        ended = Ended(held, result, timedelta(seconds=time.monotonic() - held.began))
        with self._changed:
            self._ended.append(ended)
            if len(self._ended) >= self._wanted:
                self._changed.notify()

    def _lead_and_launch(self) -> None:
        following = self._lead()
        if following is not None:
            self._launch([following])

    def _lead(self) -> Held | None:
        with self._changed:
            if self._leading:
                return None
            self._leading = True
        # Others may wait for the thread that has just ended its body.
        self._spread()
        mine: Held | None = None
        try:
            while True:
                self._linger()
                with self._changed:
                    batch = [self._ended.popleft() for _ in range(min(len(self._ended), MOST_TOGETHER))]
                    if not batch:
                        self._leading = False
                        return mine
                if mine is not None:
                    self._launch([mine])
                followings, mine = self._finish_or_pass_on(batch), None
                # What is free now is taken at once, so that what starts together also ends together.
                taken = self._refill() if len(followings) < len(batch) else 0
                if len(followings) == 1 and not taken and not followings[0].on_loop:
                    mine = followings.pop()
                self._launch(followings)
                if followings or taken:
                    # Much is going on: whoever finishes it all has one connection and no body of its own to run.
                    self._gather(len(followings) + taken)
        except BaseException:
            with self._changed:
                self._leading = False
            raise

    def _gather(self, launched: int) -> None:
        """Wait a moment for what was launched together to end together; what takes longer gets threads of its own."""
        with self._changed:
            self._wait_for(launched)
        self._spread()

    def _linger(self) -> None:
        """Wait a moment for bodies that are about to end, as long as that brings some in."""
        with self._changed:
            queued = len(self._ended)
            running = len(self._held) - queued
            if not queued or running <= 0:
                return
            if self._in_vain and self._in_vain < LINGER_AGAIN:
                self._in_vain += 1
                return
            self._wait_for(queued + running)
            self._in_vain = 0 if len(self._ended) > queued else 1

    def _wait_for(self, count: int) -> None:
        # Waking for each one that ends would cost more than it brings.
        self._wanted = count
        self._changed.wait_for(lambda: len(self._ended) >= count, timeout=LINGER_SECONDS)
        self._wanted = 1

    def _finish_or_pass_on(self, batch: list[Ended]) -> list[Held]:
        try:
            return self._finish(batch)
        except Exception:
            # Whatever it was: each of them is still held, and is finished by itself.
            logger.exception("finishing together failed stages=%s", len(batch))
            for ended in batch:
                self._leave(ended)
            return []

    def _finish(self, batch: list[Ended]) -> list[Held]:
        """Finish together what can be, and let the pool's threads finish the rest alone; return what follows."""
        live = []
        newest = {ended.held.stage.stage_run_id: ended for ended in sorted(batch, key=lambda one: one.held.stage.token)}
        for ended in batch:
            if ended.held.lost.is_set():
                self._drop(ended)
            elif newest[ended.held.stage.stage_run_id] is not ended:
                # An older attempt of the same stage, whose body has ended only now.
                self._leave(ended)
            else:
                live.append(ended)
        if not live:
            return []
        try:
            self._recorder.flush()
        except Exception:
            logger.exception("log lines cannot be written")
        tried = self._together(live)
        finished = {item.stage_run_id: item for item in tried or ()}
        followings: list[Held] = []
        settled: list[Held] = []
        for ended in live:
            done = finished.get(ended.held.stage.stage_run_id)
            if done is not None:
                settled.append(ended.held)
                followings += [self._make(started, ended.held) for started in done.next]
            elif tried is not None and ended.missed < MOST_MISSED and can_join(ended.outcome()):
                self._again(ended)
            else:
                self._leave(ended)
        if not settled:
            # Whoever holds these runs is most likely another step of this engine, which is short.
            self._kernel.ports.clock.pause(MISSED_SECONDS)
        return self._settle(settled, followings)

    def _again(self, ended: Ended) -> None:
        ended.missed += 1
        with self._changed:
            self._ended.append(ended)

    def _together(self, live: list[Ended]) -> tuple[Finished, ...] | None:
        """Return those that were finished; None: nobody knows."""
        # One causation for the transaction; alone each is asked about by its own.
        causation_id = live[0].causation_id
        for ended in live:
            ended.causation_id = causation_id
        outcomes = tuple(outcome for outcome in (ended.outcome() for ended in live) if can_join(outcome))
        joining = {outcome.stage.stage_run_id for outcome in outcomes}
        places = [ended.held.on_loop for ended in live if ended.held.stage.stage_run_id in joining]
        try:
            with self.turn:
                starter = self._starter(places.count(False), places.count(True))
                command = FinishStages(outcomes=outcomes, starter=starter, together=True)
                return self._kernel.dispatch(command, causation_id=causation_id).finished
        except Exception as error:
            logger.debug("finishing alone stages=%s error=%s", len(live), error)
            tidy_connections()
            return None

    def _leave(self, ended: Ended) -> None:
        """Let the thread that finishes one after the other, alone, have it."""
        with self._alone_changed:
            self._alone.append(ended)
            if self._alone_thread is None:
                self._alone_thread = threading.Thread(target=self._finish_alone, name="wfe-finish", daemon=True)
                self._alone_thread.start()
            self._alone_changed.notify()

    def stop(self) -> None:
        """End the thread that finishes attempts alone; the rest of them were given back."""
        with self._alone_changed:
            self._alone_stopping = True
            self._alone_changed.notify()
            thread = self._alone_thread
        if thread is not None:
            thread.join(STOP_SECONDS)

    def _finish_alone(self) -> None:
        held_up = 0
        try:
            while True:
                with self._alone_changed:
                    self._alone_changed.wait_for(lambda: self._alone or self._alone_stopping)
                    if self._alone_stopping:
                        return
                    ended = self._alone.popleft()
                if self._one(ended):
                    held_up = 0
                    continue
                # Its run is held, or the database is away: the others have their turn meanwhile.
                with self._alone_changed:
                    self._alone.append(ended)
                    held_up += 1
                    if held_up >= len(self._alone):
                        pause = HELD_UP_SECONDS * 2 ** min(held_up // len(self._alone), 6)
                        self._alone_changed.wait_for(lambda: self._alone_stopping, timeout=pause)
        finally:
            connections.close_all()

    def _one(self, ended: Ended) -> bool:
        """Finish one attempt alone; False: not yet."""
        held = ended.held
        followings: list[Held] = []
        if not (held.lost.is_set() and not held.timed_out):
            try:
                finished = self._store(ended)
            except Exception:
                logger.exception("result lost run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
                finished = Finished(held.stage.stage_run_id, "ghost")
            if finished is None:
                return False
            followings = [self._make(started, held) for started in finished.next]
        self._launch(self._settle([held], followings))
        self._spread()
        tidy_connections()
        return True

    def _store(self, ended: Ended) -> Finished | None:
        """Store the result; None: its run is held, or the database is away. The result is kept; the token decides."""
        outcome, stage = ended.outcome(), ended.held.stage
        on_loop = ended.held.on_loop
        starter = self._starter(int(not on_loop), int(on_loop)) if outcome.may_go_on else None
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

    def _drop(self, ended: Ended) -> None:
        stage = ended.held.stage
        logger.info("result dropped run=%s stage=%s", stage.run_id, stage.stage_id)
        self._settle([ended.held], [])

    def _settle(self, ended: list[Held], followings: list[Held]) -> list[Held]:
        with self._changed:
            self.finished += len(ended)
        # Siblings whose common COMMIT was not answered may both find the same next stage: it runs once.
        new = self._held.exchange(ended, followings)
        self._settled()
        return new
