"""The world of a schedule: who goes on next, what time it is, and where something goes wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import OperationalError
from greenlet import getcurrent

from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.kernel import Kernel, create_kernel, points
from workflow_engine.kernel.ports import Limits
from workflow_engine.kernel.subscribers import Subscriber, Subscribers
from workflow_engine.testing.clock import START

from .database import ALIAS, Database
from .faults import Faults
from .network import Network, SimulatedTransport
from .processes import Process, Start, Task
from .registry import PlanRegistry
from .settings import BEAT_SECONDS, LEASE_SECONDS, Settings
from .virtual import HostClock

# Injected errors of one stage: fewer than it is given up after, so that a healthy one never is.
MOST_ERRORS = 3
INLINE_BYTES = 40
MEAN_SECONDS = 0.05
# As by default: one more than are injected (``MOST_DEATHS``).
MAX_CRASHES = 3
# How likely another one goes on at a place where it may.
SWITCH = 0.3
WITHIN = {points.EXEC_CLAIMED, points.EXEC_RETURNED}


class World:
    """Runs the tasks of all processes, one at a time, in an order that the seed decides."""

    def __init__(self, seed: int | str, settings: Settings, database: Database, registry: PlanRegistry) -> None:
        self.settings, self.database, self.registry = settings, database, registry
        self.chance = random.Random(f"{seed}/order")  # noqa: S311 - not a secret
        self.step = 0
        self.trace: list[tuple[int, float, str, str]] = []
        self.faults = Faults(random.Random(f"{seed}/faults"), settings, self._tell_fault)  # noqa: S311
        self.network = Network(self.faults, lambda: self.seconds, self._ring)
        self.blobs = InMemoryBlobStore()
        self.subscribers: tuple[Subscriber, ...] = ()
        self.processes: list[Process] = []
        self.current: Task | None = None
        self.problems: list[str] = []
        # Of attempts, by stage run and token: how often a body, or a check, was entered.
        self.entered: Counter[tuple[str, int, bool]] = Counter()
        # How often each process died or hung.
        self.troubles: Counter[str] = Counter()
        # Of stage runs: how often somebody died while holding them, and what was raised in them.
        self.deaths: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.hub = getcurrent()
        self.seconds = 0.0
        database.actor = self._actor

    @property
    def seconds(self) -> float:
        """The seconds since the beginning, by which the database goes."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = seconds
        self.database.set_time(START + timedelta(seconds=seconds))

    def _actor(self) -> str:
        return self.current.process.worker if self.current else ""

    def skew(self) -> float:
        return self.current.process.skew if self.current else 0.0

    def kernel(self, skew: float) -> Kernel:
        """Return the kernel of one process: the database, blobs and messages are everybody's."""
        known = self.subscribers
        return create_kernel(
            using=ALIAS,
            clock=HostClock(lambda: self.seconds, self.pause, skew),
            transport=SimulatedTransport(self.network),
            blobs=self.blobs,
            registry=self.registry,
            limits=Limits(
                lease_seconds=LEASE_SECONDS,
                beat_seconds=BEAT_SECONDS,
                inline_payload_bytes=INLINE_BYTES if self.settings.large else 64 * 1024,
                max_event_tries=1_000,
                max_crashes=MAX_CRASHES,
            ),
            subscribers=Subscribers(lambda: known),
        )

    def boot(self, name: str, start: Start) -> None:
        """Start a process; whenever it dies, it is started again after a while."""
        skew = self.chance.choice([-3600.0, 0.0, 240.0]) if self.settings.skew else 0.0
        process = Process(self, name, start, self.kernel(skew), skew)
        self.processes.append(process)
        self._start(process)

    def _start(self, process: Process) -> None:
        process.boots += 1
        process.start(process)

    def stop(self, name: str) -> None:
        """End a process for good."""
        for process in [one for one in self.processes if one.name == name]:
            process.note_death()
            process.kill()
            self.processes.remove(process)

    # What tasks call.

    def pause(self, seconds: float) -> None:
        """Let time pass for the task that calls."""
        if self.current is None or self.database.wrapper.in_atomic_block:
            self.seconds += seconds
        else:
            self.sleep(seconds)

    def sleep(self, seconds: float, *, hears_bells: bool = False) -> None:
        """Let others go on for so long, or until a message comes."""
        task = self.task()
        task.wake, task.hears_bells = self.seconds + seconds, hears_bells
        self._switch(task)
        task.hears_bells = False

    def hit(self, name: str) -> None:
        """Pass a crash point of the engine."""
        if self.current is None:
            return
        if name in WITHIN and self.current.held is not None:
            self._within(self.current, name)
        self._pass(self.current, name)

    def around_statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        """Pass a place between two statements: an execute wrapper of Django's."""
        task = self.current
        if task is not None and not sql.startswith(("ROLLBACK", "RELEASE")):
            verb = sql[:6]
            self._pass(task, verb)
            if verb == "BEGIN " and task.held is None and self.faults.strikes("conflict", task.name, "BEGIN"):
                raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    def after_commit(self) -> None:
        """Die before anything that follows a COMMIT, or lose the answer to it, now and then."""
        task = self.current
        if task is None:
            return
        if self.faults.strikes("crash after commit", task.name, "COMMIT", unless=task.process.is_spared):
            raise points.Crash
        if task.held is None and self.faults.strikes("answer of commit lost", task.name, "COMMIT"):
            raise OperationalError("the connection was closed before an answer came")

    def freeze(self, kind: str, place: str) -> None:
        """Stop the process that calls for so long that most likely somebody else has taken over what it holds."""
        task = self.task()
        if self.database.wrapper.in_atomic_block:
            return
        if self.faults.strikes(kind, task.name, place, unless=task.process.is_spared):
            task.process.stall(self.faults.amount(1.2, 4) * LEASE_SECONDS)
            self._switch(task, kind)

    def task(self) -> Task:
        """Return the task that calls."""
        assert self.current is not None, "only tasks may wait"
        return self.current

    def _pass(self, task: Task, place: str) -> None:
        process = task.process
        if process.is_dead:
            raise points.Crash
        inside = self.database.wrapper.in_atomic_block
        kind = "crash in transaction" if inside else "crash"
        if self.faults.strikes(kind, task.name, place, unless=process.is_spared):
            raise points.Crash
        if inside:
            return
        if self.faults.strikes("stall", task.name, place, unless=process.is_spared):
            process.stall(self.faults.amount(0.3, 4) * LEASE_SECONDS)
            self._switch(task, place)
        elif self.chance.random() < SWITCH:
            self._switch(task, place)

    def _within(self, task: Task, name: str) -> None:
        """Pass the beginning or the end of a body or check."""
        stage = task.held.stage
        row = stage.stage_run_id.hex
        if name == points.EXEC_CLAIMED:
            self.entered[row, stage.token, task.is_check] += 1
            kind = "slow check" if task.is_check else "slow body"
            # The later attempts rather: so that results of earlier ones come while they are under way.
            for _ in range(0 if self.database.wrapper.in_atomic_block else min(stage.token, 2)):
                if self.faults.strikes(kind, task.name, stage.stage_id):
                    self.sleep(self.faults.amount(0.1, 4) * LEASE_SECONDS)
            return
        self.freeze("late result", stage.stage_id)
        kind = "check error" if task.is_check else "body error"
        spared = lambda: self.errors[row, kind] >= MOST_ERRORS  # noqa: E731
        if self.faults.strikes(kind, task.name, stage.stage_id, unless=spared):
            self.errors[row, kind] += 1
            raise OSError("injected")

    def _switch(self, task: Task, place: str = "waits") -> None:
        if self.database.wrapper.in_atomic_block:
            raise AssertionError(f"{task.name} would let others go on inside a transaction")
        self.hub.switch(place)
        if task.process.is_dead:
            raise points.Crash

    # What decides who goes on.

    def turn(self) -> None:
        """Let one task go on up to the next place where another one may."""
        self.step += 1
        task = self._next()
        self.current = task
        place = task.greenlet.switch()
        self.current = None
        self.trace.append((self.step, self.seconds, task.name, place or ("dies" if task.crash else "ends")))
        self.seconds += self.chance.expovariate(1 / MEAN_SECONDS)
        if task.greenlet.dead:
            self._ended(task)

    def _next(self) -> Task:
        while True:
            now = self.seconds
            tasks = [task for process in self.processes if process.stalled_until <= now for task in process.tasks]
            ready = [task for task in tasks if task.wake <= now]
            if ready:
                return ready[self.chance.randrange(len(ready))]
            times = [max(task.wake, process.stalled_until) for process in self.processes for task in process.tasks]
            self.seconds = min(times)

    def _ended(self, task: Task) -> None:
        process = task.process
        process.tasks.remove(task)
        if task.crash is None:
            return
        if not process.is_dead:
            process.note_death()
            process.kill()
        process.is_dead = False
        process.stalled_until = self.seconds + self.chance.uniform(0, 1.5) * LEASE_SECONDS
        process.kernel = self.kernel(process.skew)
        self._start(process)

    def _ring(self, at: float) -> None:
        asleep = [
            task
            for process in self.processes
            for task in process.tasks
            if task.hears_bells and task.wake > at and task is not self.current
        ]
        if asleep:
            asleep[self.chance.randrange(len(asleep))].wake = at

    def _tell_fault(self, number: int, kind: str, where: str) -> None:
        self.trace.append((self.step, self.seconds, f"fault {number}", f"{kind}: {where}"))
