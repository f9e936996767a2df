"""A worker of a schedule: the engine's own steps, in tasks where a real worker has threads."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from django.db import Error

from workflow_engine.definitions.results import CheckResult
from workflow_engine.errors import WorkflowEngineError
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.recorder import Recorder
from workflow_engine.hosts.atomic import finish_with_effects, run_atomic
from workflow_engine.hosts.beating import Beating
from workflow_engine.hosts.ended import Ended
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.lane import CheckLane
from workflow_engine.hosts.pool import ThreadPool
from workflow_engine.hosts.sleepers import Sleepers
from workflow_engine.hosts.taking import Taker
from workflow_engine.hosts.turns import Turns
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.checked import ClaimedCheck
from workflow_engine.kernel.commands import Finished
from workflow_engine.kernel.effects import has_effects
from workflow_engine.kernel.ports import WorkerFacts

from .processes import Process, Task, running
from .settings import BEAT_SECONDS, LEASE_SECONDS, TICK_SECONDS

CHECKS, SUPERVISED = 2, "13579"
AGAIN_SECONDS, LONGEST_REST_SECONDS = 1.0, 30.0
TROUBLES = (Error, WorkflowEngineError)


def start_worker(process: Process) -> None:
    SimulatedWorker(process, process.world.settings.slots)


class SimulatedWorker(InlineHost):
    """Takes work, runs it, beats, makes checks and wakes suspended stages."""

    def __init__(self, process: Process, slots: int) -> None:
        super().__init__(process.kernel)
        self._process, self._world, self._slots = process, process.world, slots
        self._is_silent = False
        self._lease = Lease(LEASE_SECONDS, margin=BEAT_SECONDS)
        self._held = HeldStages()
        self._lane = _Lane(process, self.worker_id, self._recorder, self._lease, freed=self._look_again)
        self._turns = Turns()
        self._taker = Taker(self.kernel, None, self.worker_id, self._turns)
        self._sleepers = Sleepers(self.kernel, self._lane, self.worker_id, wakes=True, batch=100)
        self._sleeper: Task | None = None
        ports = self.kernel.ports
        facts = WorkerFacts(
            id=self.worker_id,
            name=process.name,
            host="simulated",
            pid=process.boots,
            version="",
            slots=slots,
            workflows=tuple(ports.known_workflows()),
            stages=ports.known_stages(),
        )
        self._beating = Beating(
            self.kernel, facts, self._held, self._lane, self._lease, lose=lambda held: held.lost.set(), zombies=int
        )
        # Of every other worker, a supervisor knows who was in its place before and has died.
        self._dead = [uuid.UUID(process.worker)] if process.worker and process.name[-1] in SUPERVISED else []
        process.worker, process.held = self.worker_id.hex, self._rows
        self._main = process.spawn("main", self._work)

    def _rows(self) -> set[str]:
        return {held.stage.stage_run_id.hex for held in (*self._held.all(), *self._lane.held.all())}

    def _work(self) -> None:
        self._keep_trying(self._beating.beat)
        self._beating.report_dead(self._dead)
        self._process.spawn("beat", self._beat)
        self._sleeper = self._process.spawn("sleepers", self._sleep)
        while True:
            self.kernel.ports.transport.pop(0)
            try:
                taken = self._take_some()
                rest = 0.0 if taken else self._rest()
            except TROUBLES:
                rest = AGAIN_SECONDS
            if rest:
                self._world.sleep(rest, hears_bells=True)

    def _take_some(self) -> int:
        if self._lease.is_over:
            return 0
        with self._turns.taking():
            starter = self._starting(self._slots - len(self._held))
            if starter.room <= 0:
                return 0
            held = [Held(stage, self._lease) for stage in self._taker.take(starter, len(self._held))]
            self._held.exchange((), held)
        for one in held:
            self._launch(one)
        if self._taker.saw_notices:
            self._look_again()
        return len(held)

    def _rest(self) -> float:
        if len(self._held) >= self._slots:
            # Whoever ends says so.
            return LONGEST_REST_SECONDS
        if self._taker.saw_work:
            return AGAIN_SECONDS
        due = self._taker.next_due_in()
        if self._taker.saw_notices:
            self._look_again()
        return LONGEST_REST_SECONDS if due is None else min(LONGEST_REST_SECONDS, max(due, 0.02))

    def _starting(self, slots: int) -> Starter:
        slots = 0 if self._is_silent else max(0, slots)
        return Starter(worker_id=self.worker_id, slots=slots, alone=self._slots == 1)

    def _beat(self) -> None:
        while True:
            self._world.sleep(BEAT_SECONDS)
            if self._world.faults.strikes("beats lost", self._process.name, unless=self._process.is_spared):
                self._be_silent()
            self._keep_trying(self._beating.beat)

    def _be_silent(self) -> None:
        """Run what is held, and nothing else, without a beat: the lease may end meanwhile."""
        self._process.note_death()
        self._is_silent = True
        self._world.sleep(self._world.faults.amount(2, 5) * LEASE_SECONDS)
        self._is_silent = False

    def _sleep(self) -> None:
        while True:
            try:
                wait = min(TICK_SECONDS, self._sleepers.step())
            except TROUBLES:
                wait = AGAIN_SECONDS
            self._world.sleep(wait)

    def _look_again(self) -> None:
        if self._sleeper is not None:
            self._sleeper.wake = min(self._sleeper.wake, self._world.seconds)

    def _launch(self, held: Held) -> None:
        self._process.spawn(f"body-{held.stage.stage_id}", lambda: self._run(held))

    def _run(self, held: Held | None) -> None:
        while held is not None:
            held = self._run_one(held)
        # There is a free slot.
        self._main.wake = min(self._main.wake, self._world.seconds)

    def _run_one(self, held: Held) -> Held | None:
        if not held.enter():
            self._held.remove(held)
            return None
        finished: Finished | None = None
        with running(self._world.task(), held):
            if self._is_atomic(held.stage):
                ended, finished = run_atomic(self.kernel, self._recorder, held, lambda: self._starting(1))
            else:
                ended = Ended.now(held, self._executor.run(held))
        if finished is None and has_effects(ended.result):
            finished = finish_with_effects(self.kernel, ended, lambda: self._starting(1))
        self._recorder.flush()
        if finished is None:
            finished = self._settle(ended)
        if finished is None:
            self._held.remove(held)
            return None
        if finished.tells or finished.kind == "suspended":
            self._look_again()
        # As what follows may be held already, if two siblings were told of it.
        following = self._held.exchange([held], [Held(stage, self._lease) for stage in finished.next])
        for other in following[1:]:
            self._launch(other)
        return following[0] if following else None

    def _settle(self, ended: Ended) -> Finished | None:
        """Store a result as soon as that is possible; None: the attempt is not held any more."""
        while not ended.held.lost.is_set():
            try:
                return self._finish(ended)
            except TROUBLES:
                self._world.sleep(AGAIN_SECONDS)
        return None

    def _starter(self) -> Starter:
        return self._starting(1)

    def _keep_trying(self, step: Callable[[], None]) -> None:
        while True:
            try:
                return step()
            except TROUBLES:
                self._world.sleep(AGAIN_SECONDS)


class _Lane(CheckLane):
    """Makes each check in a task of its own, those of suspects too."""

    def __init__(
        self, process: Process, worker_id: object, recorder: Recorder, lease: Lease, *, freed: Callable[[], None]
    ) -> None:
        super().__init__(
            process.kernel,
            worker_id,  # type: ignore[arg-type]
            recorder,
            lease,
            size=CHECKS,
            freed=freed,
            tidy=lambda: None,
        )
        self._world = process.world
        self._pool = _Tasks(process)
        self._stopping = _Never(process)

    def _made(self, check: ClaimedCheck, held: Held) -> CheckResult:
        held.began = time.monotonic()
        with running(self._world.task(), held, check=True):
            return self._executor.run(check, held)


class _Never(threading.Event):
    """Is never set, and is waited for in virtual time."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._world = process.world

    def wait(self, timeout: float | None = None) -> bool:
        self._world.sleep(timeout or 0.0)
        return False


class _Tasks(ThreadPool):
    def __init__(self, process: Process) -> None:
        self._process = process

    def submit(self, task: Callable[[], None], *, item: bool = False) -> None:
        self._process.spawn("check", task)
