"""Finishing: attempts that end at the same moment share one transaction."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db import InterfaceError, OperationalError

from workflow_engine.definitions.results import Failed, Result, StageError
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable
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


@dataclass(eq=False, slots=True)
class Ended:
    held: Held
    result: Result
    elapsed: timedelta
    causation_id: uuid.UUID = field(default_factory=uuid.uuid4)
    # Tries in which somebody held its run.
    missed: int = 0

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
        starter: Callable[[], Starter | None],
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
        """Finish the attempt in a transaction of its own, waiting for its run if somebody holds it."""
        self._alone(Ended(held, result, timedelta(seconds=time.monotonic() - held.began)))

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
                followings, mine = self._finish(batch), None
                # What is free now is taken at once, so that what starts together also ends together.
                taken = self._refill() if len(followings) < len(batch) else 0
                if len(followings) == 1 and not taken:
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

    def _finish(self, batch: list[Ended]) -> list[Held]:
        """Finish together what can be, and let the pool's threads finish the rest alone; return what follows."""
        live = []
        for ended in batch:
            if ended.held.lost.is_set():
                self._drop(ended)
            else:
                live.append(ended)
        if not live:
            return []
        self._recorder.flush()
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
                self._submit(lambda ended=ended: self._alone(ended))  # type: ignore[misc]
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
        starter = self._starter()
        if starter is not None:
            on_loop = sum(ended.held.on_loop for ended in live)
            tasks = None if starter.tasks is None else starter.tasks + on_loop
            starter = replace(starter, slots=len(live) - on_loop, tasks=tasks)
        # One causation for the transaction; alone each is asked about by its own.
        causation_id = live[0].causation_id
        for ended in live:
            ended.causation_id = causation_id
        command = FinishStages(outcomes=tuple(ended.outcome() for ended in live), starter=starter, together=True)
        try:
            with self.turn:
                return self._kernel.dispatch(command, causation_id=causation_id).finished
        except Exception as error:
            logger.debug("finishing alone stages=%s error=%s", len(live), error)
            tidy_connections()
            return None

    def _alone(self, ended: Ended) -> None:
        """Finish one attempt, waiting for its run and for the database as long as the attempt is ours."""
        followings: list[Held] = []
        try:
            finished = self._until_stored(ended)
            if finished is not None:
                followings = [self._make(started, ended.held) for started in finished.next]
        finally:
            followings = self._settle([ended.held], followings)
        self._launch(followings)

    def _until_stored(self, ended: Ended) -> Finished | None:
        tries, result = 0, ended.result
        while True:
            outcome = ended.outcome()
            starter = self._starter() if outcome.may_go_on else None
            if starter is not None:
                starter = replace(starter, slots=1, tasks=None if starter.tasks is None else 1)
            command = FinishStages(outcomes=(outcome,), starter=starter, again=True)
            try:
                return self._kernel.dispatch(command, causation_id=ended.causation_id).finished[0]
            # Any operational error: the server, the network, the disk. Only what depends on the result is final.
            except (DatabaseUnavailable, DatabaseConflict, OperationalError, InterfaceError) as error:
                tidy_connections()
                tries += 1
                if tries == 1:
                    logger.warning("result kept for later run=%s error=%s", ended.held.stage.run_id, error)
                if self._lease.is_over:
                    return None
                self._kernel.ports.clock.pause(min(0.1 * 2**tries, 5))
            except Exception as error:
                if ended.result is not result:
                    raise
                stage = ended.held.stage
                logger.exception("result cannot be stored run=%s stage=%s", stage.run_id, stage.stage_id)
                details = describe(error)
                refused = StageError("RESULT_NOT_STORED", details.kind, details.message, details.traceback)
                ended.result = Failed(refused, None)

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
