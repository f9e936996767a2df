"""Finishing: attempts that end at the same moment share one transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from workflow_engine.definitions.results import Result
from workflow_engine.executors.held import Held, HeldStages
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Finished, FinishStages
from workflow_engine.kernel.together import can_join

from .alone import AloneFinisher
from .ended import Bodies, Ended, Supply, say_if_refused

logger = logging.getLogger(__name__)
# Outcomes in one transaction.
MOST_TOGETHER = 100
# How long whoever finishes waits for short bodies that are about to end too.
LINGER_SECONDS = 0.0015
# Where waiting gained nothing, it is tried again only every so many times.
LINGER_AGAIN = 16
# How long whoever finishes items of maps waits for short runs at most.
GIVE_WAY_SECONDS = 0.02
# Other runs were here lately: then items take breaks, so long in proportion to the work between.
OTHERS_SECONDS, LEFT_SHARE = 1.0, 1.5
# Whose run is held by somebody is tried again with the next ones, and after that alone.
MOST_MISSED, MISSED_SECONDS = 5, 0.0005
# Items of a map find their run held by whoever finishes its other items: alone they would only be more of them.
MOST_MISSED_BY_ITEMS = 100


def _most_missed(ended: Ended) -> int:
    return MOST_MISSED if ended.held.stage.item_index is None else MOST_MISSED_BY_ITEMS


class Finisher:
    """Stores results and says what follows.

    The first thread whose body has ended leads: it finishes what is queued, again and again until nothing is; the
    others only queue their result and are free. So the more ends at once, the more shares a transaction, and a single
    run never waits.

    A worker has two: items of maps share large transactions of a few runs, for which short runs must not wait.
    """

    def __init__(
        self,
        kernel: Kernel,
        held: HeldStages,
        recorder: Recorder,
        bodies: Bodies,
        supply: Supply,
        submit: Callable[[Callable[[], None]], None],
        alone: AloneFinisher,
        turn: threading.Lock,
        *,
        of_items: bool = False,
    ) -> None:
        self._of_items, self.alone = of_items, alone
        self._kernel, self._held, self._recorder = kernel, held, recorder
        self._bodies, self._supply, self._submit = bodies, supply, submit
        self._ended: deque[Ended] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._turn = turn
        self._leading = False
        self._in_vain, self._wanted = 0, 1

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

    def _queue(self, held: Held, result: Result) -> None:
        ended = Ended.now(held, result)
        with self._changed:
            self._ended.append(ended)
            if len(self._ended) >= self._wanted:
                self._changed.notify()

    def _lead_and_launch(self) -> None:
        following = self._lead()
        if following is not None:
            self._bodies.launch([following])

    def _lead(self) -> Held | None:
        with self._changed:
            if self._leading:
                return None
            self._leading = True
        # Others may wait for the thread that has just ended its body.
        self._bodies.spread()
        mine: Held | None = None
        try:
            while True:
                self._give_way()
                self._linger()
                with self._changed:
                    batch = [self._ended.popleft() for _ in range(min(len(self._ended), MOST_TOGETHER))]
                    if not batch:
                        self._leading = False
                        return mine
                if mine is not None:
                    self._bodies.launch([mine])
                began = time.monotonic()
                followings, mine = self._finish_or_pass_on(batch), None
                # What is free now is taken at once, so that what starts together also ends together.
                taken = self._supply.refill() if len(followings) < len(batch) else 0
                self._leave_time(time.monotonic() - began)
                if len(followings) == 1 and not taken and not followings[0].on_loop:
                    mine = followings.pop()
                self._bodies.launch(followings)
                if followings or taken:
                    # Much is going on: whoever finishes it all has one connection and no body of its own to run.
                    self._gather(len(followings) + taken)
        except BaseException:
            with self._changed:
                self._leading = False
            raise

    def _give_way(self) -> None:
        """Let short runs in this process go first, for a moment: a wide map has thousands of items left anyway."""
        if self._of_items and self._ended:
            self._held.wait_for_short_runs(GIVE_WAY_SECONDS)

    def _leave_time(self, spent: float) -> None:
        """Leave a part of the machine to other runs, while there are others."""
        if self._of_items and self._held.others_since < OTHERS_SECONDS:
            self._kernel.ports.clock.pause(min(spent * LEFT_SHARE, GIVE_WAY_SECONDS))

    def _gather(self, launched: int) -> None:
        """Wait a moment for what was launched together to end together; what takes longer gets threads of its own."""
        with self._changed:
            self._wait_for(launched)
        self._bodies.spread()

    def _linger(self) -> None:
        """Wait a moment for bodies that are about to end, as long as that brings some in."""
        with self._changed:
            queued = len(self._ended)
            running = self._running() - queued
            if not queued or running <= 0:
                return
            if self._in_vain and self._in_vain < LINGER_AGAIN:
                self._in_vain += 1
                return
            self._wait_for(queued + running)
            self._in_vain = 0 if len(self._ended) > queued else 1

    def _running(self) -> int:
        items = self._held.items
        return items if self._of_items else len(self._held) - items

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
                self.alone.add(ended)
            return []

    def _finish(self, batch: list[Ended]) -> list[Held]:
        """Finish together what can be, and leave the rest to be finished alone; return what follows."""
        live = []
        newest = {ended.held.stage.stage_run_id: ended for ended in sorted(batch, key=lambda one: one.held.stage.token)}
        for ended in batch:
            if ended.held.lost.is_set():
                self._drop(ended)
            elif newest[ended.held.stage.stage_run_id] is not ended:
                # An older attempt of the same stage, whose body has ended only now.
                self.alone.add(ended)
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
        told = False
        for ended in live:
            done = finished.get(ended.held.stage.stage_run_id)
            if done is not None:
                say_if_refused(ended.held.stage, done)
                settled.append(ended.held)
                followings += [self._bodies.make(started, ended.held) for started in done.next]
                told = told or done.tells or done.kind == "suspended"
            elif tried is not None and ended.missed < _most_missed(ended) and can_join(ended.outcome()):
                self._again(ended)
            else:
                self.alone.add(ended)
        if told:
            self._supply.stage_suspended()
        if not settled:
            # Whoever holds these runs is most likely another step of this engine, which is short.
            self._kernel.ports.clock.pause(MISSED_SECONDS)
        return self._bodies.settle(settled, followings)

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
        places = [ended.held for ended in live if ended.held.stage.stage_run_id in joining]
        try:
            with self._turn:
                starter = self._supply.continue_with(places)
                command = FinishStages(outcomes=outcomes, starter=starter, together=True)
                return self._kernel.dispatch(command, causation_id=causation_id).finished
        except Exception as error:
            logger.debug("finishing alone stages=%s error=%s", len(live), error)
            tidy_connections()
            return None

    def _drop(self, ended: Ended) -> None:
        stage = ended.held.stage
        logger.info("result dropped run=%s stage=%s", stage.run_id, stage.stage_id)
        self._bodies.settle([ended.held], [])
