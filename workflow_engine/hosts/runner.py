"""Running started stages in the threads of the pool: body, finish, and on to what follows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from workflow_engine.definitions.results import Result
from workflow_engine.definitions.stages import Stage
from workflow_engine.executors.attempts import timed_out
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.loop import LoopExecutor
from workflow_engine.executors.processes import ProcessExecutor
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import ThreadExecutor
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.effects import has_effects
from workflow_engine.kernel.started import StartedStage

from .alone import AloneFinisher
from .ended import Ended, Supply
from .finisher import Finisher
from .own import OwnFinisher
from .pool import ThreadPool
from .turns import Turns

logger = logging.getLogger(__name__)
# An event loop that has not turned for so long is blocked by a body.
STALLED_SECONDS = 1.0
# Bodies that take less than this go one after the other in a thread, unless one of them turns out to be longer.
QUICK_SECONDS, NOT_QUICK_SECONDS = 0.0005, 60.0
# Items of a map that take less than this may wait here for a thread in greater number than there are slots.
SHORT_ITEM_SECONDS = 0.02


class Runner:
    """Runs attempts in threads, on an event loop or in processes, and finishes them."""

    def __init__(self, kernel: Kernel, held: HeldStages, recorder: Recorder, lease: Lease, supply: Supply) -> None:
        self._kernel, self._held, self._recorder, self._lease = kernel, held, recorder, lease
        self._supply = supply
        self._executor = ThreadExecutor(kernel.ports, recorder)
        self._processes = ProcessExecutor(kernel.ports)
        self._loop: LoopExecutor | None = None
        self._lock = threading.Lock()
        self._stalled = False
        # How long bodies in threads take, lately.
        self._typical, self._not_quick_until = QUICK_SECONDS, 0.0
        self._typical_item = SHORT_ITEM_SECONDS
        self._threads: dict[int, threading.Thread] = {}
        self._pool: ThreadPool | None = None
        self.finished = 0
        alone = self._alone = AloneFinisher(kernel, self, supply)
        self.turns = Turns()
        given = (kernel, held, recorder, self, supply, self._submit, alone)
        self.finisher = Finisher(*given, self.turns.others)
        self._item_finisher = Finisher(*given, self.turns.items, of_items=True)
        self._own = OwnFinisher(kernel, recorder, self, supply, alone)

    def use(self, pool: ThreadPool) -> None:
        """Run in the threads of ``pool`` from now on."""
        self._pool = pool

    def settle(self, ended: Sequence[Held], followings: Sequence[Held]) -> list[Held]:
        """Let what follows stand where others have ended; return what was not held before."""
        with self._lock:
            self.finished += len(ended)
        # Siblings whose common COMMIT was not answered may both find the same next stage: it runs once.
        new = self._held.exchange(ended, followings)
        self._supply.slot_freed()
        return new

    def take(self, started: list[StartedStage]) -> None:
        """Hold attempts that were started for this process, before anything else can happen to them; and run them."""
        taken = [self.make(stage) for stage in started]
        self._held.exchange((), taken)
        self.launch(taken)

    def launch(self, started: Sequence[Held]) -> None:
        """Run attempts on the event loop, or in threads as soon as one is free; ``spread`` must follow."""
        tasks: dict[bool, list[Callable[[], None]]] = {False: [], True: []}
        for held in started:
            if held.on_loop:
                self._use_loop().submit(held, self._hand_over)
            else:
                tasks[held.is_item].append(lambda held=held: self.run(held))  # type: ignore[misc]
        for are_items, alike in tasks.items():
            if self._pool is not None and len(alike) > 1 and self.is_quick:
                self._pool.submit_quick(alike, items=are_items)
            else:
                for task in alike:
                    self._submit(task, item=are_items)

    @property
    def is_quick(self) -> bool:
        """Whether bodies in threads are so short that a few may wait for their turn in this process."""
        return self._typical < QUICK_SECONDS and time.monotonic() > self._not_quick_until

    def _note(self, held: Held, took: float) -> None:
        self._typical += (took - self._typical) / 8
        if held.is_item:
            self._typical_item += (took - self._typical_item) / 8

    @property
    def has_short_items(self) -> bool:
        return self._typical_item < SHORT_ITEM_SECONDS and time.monotonic() > self._not_quick_until

    def not_quick(self) -> None:
        """Some had to wait longer than they should: take no more than there are threads for a while."""
        self._not_quick_until = time.monotonic() + NOT_QUICK_SECONDS

    def spread(self, after: float = 0) -> None:
        """Give threads to bodies that were thought to be quicker than they are."""
        if self._pool is not None and self._pool.waiting:
            if after:
                time.sleep(after)
            self._pool.spread()

    def stop(self) -> None:
        """Let go of what still runs outside of the pool; nothing of it is kept."""
        self._alone.stop()
        if self._loop is not None:
            self._loop.stop()
        self._processes.stop()

    @property
    def zombies(self) -> int:
        return 0 if self._loop is None else self._loop.zombies

    def is_isolated(self, held: Held) -> bool:
        return self._definition(held.stage).isolation == "process" and not held.stage.expands

    def tell_lost(self, held: Held) -> None:
        """Cancel the task of an attempt that was lost; threads and processes look for themselves."""
        if held.on_loop and self._loop is not None:
            self._loop.cancel(held)

    def watch_loop(self) -> None:
        """Say that a body keeps the event loop from turning, and time out the others' attempts from outside."""
        loop = self._loop
        if loop is None or loop.stalled_for() < STALLED_SECONDS:
            self._stalled = False
            return
        if not self._stalled:
            self._stalled = True
            blocker = loop.blocker()
            name = "?" if blocker is None else f"{blocker.stage.stage_id} run={blocker.stage.run_id}"
            logger.warning("an async body blocks the event loop, and all others with it stage=%s", name)
        now = time.monotonic()
        for held in self._held.all():
            late = held.on_loop and held.deadline is not None and now > held.deadline + STALLED_SECONDS
            if late and not held.timed_out and loop.abandon(held):
                held.timed_out = True
                held.lost.set()
                self.time_out(held)

    def _use_loop(self) -> LoopExecutor:
        with self._lock:
            if self._loop is None:
                self._loop = LoopExecutor(self._kernel.ports, self._recorder)
                self._loop.start()
            return self._loop

    def run(self, held: Held | None) -> None:
        """Run the attempt, and the stages that follow it while this thread may go on with them."""
        while held is not None:
            held = self._run_one(held)

    def thread_of(self, held: Held) -> threading.Thread | None:
        return self._threads.get(id(held))

    def time_out(self, held: Held) -> None:
        """Fence off an attempt whose body is over its time; whatever it still does is dropped."""
        logger.warning("stage timed out run=%s stage=%s", held.stage.run_id, held.stage.stage_id)
        self._alone.add(Ended.now(held, timed_out(self._definition(held.stage), held)))

    def _submit(self, task: Callable[[], None], *, item: bool = False) -> None:
        if self._pool is None:
            task()
        else:
            self._pool.submit(task, item=item)

    def _run_one(self, held: Held) -> Held | None:
        if not held.enter():
            self._held.remove(held)
            return None
        self._threads[id(held)] = threading.current_thread()
        began = held.began
        try:
            stage = self._definition(held.stage)
            if stage.timeout is not None:
                held.deadline = began + stage.timeout.total_seconds()
            # Making a map's items is the engine's work, whatever is said of the stage's own bodies.
            own_process = stage.isolation == "process" and not held.stage.expands
            if stage.atomic and not held.stage.expands:
                return self._own.run_atomic(held)
            result = self._processes.run(held) if own_process else self._executor.run(held)
        except BaseException:
            self._held.remove(held)
            raise
        finally:
            self._threads.pop(id(held), None)
            self._note(held, time.monotonic() - began)
        # Before the finish: in a transaction that the body left open it would never be committed.
        tidy_connections()
        if has_effects(result):
            return self._own.finish(held, result)
        return self._finisher_of(held).finish(held, result)

    def _finisher_of(self, held: Held) -> Finisher:
        return self.finisher if held.stage.item_index is None else self._item_finisher

    def _hand_over(self, held: Held, result: Result) -> None:
        """Let a thread of the pool finish what has ended on the event loop."""
        if has_effects(result):
            self._submit(lambda: self.run(self._own.finish(held, result)))
        else:
            self._finisher_of(held).hand_over(held, result)

    def _definition(self, started: StartedStage) -> Stage[Any, Any, Any]:
        return self._kernel.ports.registry.get_workflow(started.workflow_id).get_stage(started.stage_id)

    def make(self, started: StartedStage, before: Held | None = None) -> Held:
        """Return the attempt as this process holds it; ``before`` is the one in whose place it goes on."""
        stage = self._definition(started)
        deadline = None if stage.timeout is None else time.monotonic() + stage.timeout.total_seconds()
        on_loop = stage.runs_on_loop and not started.expands
        held = Held(started, self._lease, deadline, on_loop=on_loop)
        if before is not None:
            held.chain, held.chain_began = before.chain + 1, before.chain_began
        return held
