"""The worker: takes due work, runs it in threads, beats, ticks, and drains when it is told to stop."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import Error, connections

from workflow_engine.conf import get_setting
from workflow_engine.errors import WorkflowEngineError
from workflow_engine.executors.held import HeldStages, Lease
from workflow_engine.executors.recorder import Recorder, RecorderThread
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Beat, ReleaseStages, WorkerFacts

from .loops import Loop
from .orchestrator import Orchestrator
from .pool import ThreadPool, tidy_connections
from .runner import Runner
from .taking import Taker

logger = logging.getLogger(__name__)
WATCH_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker runs. ``queues`` None: every queue. ``run_id``: nothing but this run."""

    name: str = ""
    threads: int | None = None
    queues: Sequence[str] | None = None
    burst: bool = False
    orchestrate: bool = True
    grace: float | None = None
    max_jobs: int | None = None
    run_id: uuid.UUID | None = None


class Worker:
    """One process's worker. Its identity is a boot uuid, never a host name: a restarted process is another worker."""

    def __init__(self, kernel: Kernel, options: WorkerOptions | None = None) -> None:
        self.kernel, self.options = kernel, options or WorkerOptions()
        self.id = uuid.uuid4()
        self.slots = self.options.threads or get_setting("WORKER_THREADS")
        self.grace = get_setting("GRACE_SECONDS") if self.options.grace is None else self.options.grace
        self.queues = None if self.options.queues is None else tuple(self.options.queues)
        limits = kernel.ports.limits
        self.lease = Lease(limits.lease_seconds, margin=min(limits.beat_seconds, limits.lease_seconds / 3))
        self.held = HeldStages()
        self.recorder = Recorder(kernel.ports)
        self.runner = Runner(kernel, self.held, self.recorder, self.lease, self._continue_with)
        self.taker = Taker(kernel, self.options.run_id, self.id)
        self.facts = self._describe()
        self._stopping, self._hurry = threading.Event(), threading.Event()
        self._unknown: dict[uuid.UUID, int] = {}
        self._pool: ThreadPool | None = None

    def run(self) -> int:
        """Work until told to stop (or, in a burst, until nothing is left); return how many attempts ended here."""
        self._wait_for_database()
        self._pool = pool = ThreadPool(self.slots)
        writer = RecorderThread(self.recorder.flush)
        loops = self._loops()
        writer.start()
        for loop in loops:
            loop.start()
        logger.info("worker started worker=%s name=%s slots=%s", self.id, self.facts.name, self.slots)
        try:
            self._take_until_stopped(pool)
        finally:
            self._drain()
            for loop in reversed(loops):
                loop.stop()
            pool.stop()
            writer.stop()
            self._say_goodbye()
            connections.close_all()
            logger.info("worker stopped worker=%s finished=%s", self.id, self.runner.finished)
        return self.runner.finished

    def stop(self) -> None:
        """Take no more work and let bodies finish up to the grace time; a second call hurries."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self.kernel.ports.transport.push([])

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def beat(self) -> None:
        """Renew the lease; let go of what the database says is not ours, give back what we do not know."""
        sent_at = time.monotonic()
        running = self.held.tokens()
        zombies = self._pool.zombies if self._pool else 0
        result = self.kernel.dispatch(Beat(worker=self.facts, running=running, zombies=zombies))
        self.lease.renewed(sent_at)
        for pk in result.lost:
            held = self.held.get(pk, running[pk])
            if held is not None:
                held.lost.set()
        # Twice in a row: an attempt that is just being started is not known here yet.
        known = self.held.tokens()
        forgotten = {pk: token for pk, token in result.unknown.items() if known.get(pk) != token}
        stray = {pk: token for pk, token in forgotten.items() if self._unknown.get(pk) == token}
        self._unknown = forgotten
        if stray:
            logger.warning("giving back stages that do not run here worker=%s count=%s", self.id, len(stray))
            self.kernel.dispatch(ReleaseStages(worker_id=self.id, tokens=stray, skip_locked=True))

    def _loops(self) -> list[Loop]:
        limits = self.kernel.ports.limits
        loops = [Loop("beat", self.beat, limits.beat_seconds), Loop("watch", self._watch, WATCH_SECONDS)]
        if self.options.orchestrate:
            orchestrator = Orchestrator(self.kernel, claims=False, lease=self.lease)
            loops.append(Loop("tick", orchestrator.tick, get_setting("TICK_SECONDS")))
        return loops

    def _take_until_stopped(self, pool: ThreadPool) -> None:
        # A little less than promised, so that the look itself and the start fit into it too.
        poll, failures = get_setting("POLL_SECONDS") * 0.93, 0
        while not self._stopping.is_set():
            if not self.held.wait_below(self.slots, timeout=poll):
                continue
            try:
                running = len(self.held)
                # Whoever cannot beat takes nothing: it would be taken away again at once.
                free = 0 if self.lease.is_over else self._free(running)
                taken = self.taker.take(self._starter(free), running) if free > 0 else []
                for started in taken:
                    held = self.runner.hold(started)
                    pool.submit(lambda held=held: self.runner.run(held))  # type: ignore[misc]
                if failures:
                    logger.info("taking work again worker=%s", self.id)
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    logger.warning("cannot take work, goes on trying error=%s: %s", type(error).__name__, error)
                tidy_connections()
                self._stopping.wait(min(0.1 * 2**failures, 5))
                continue
            if self._is_done(bool(taken)):
                break
            if not taken:
                self.kernel.ports.transport.pop(poll)

    def _free(self, running: int) -> int:
        limit = self.options.max_jobs
        free = self.slots - running
        return free if limit is None else min(free, limit - self.runner.finished - running)

    def _is_done(self, took: bool) -> bool:
        limit = self.options.max_jobs
        if limit is not None and self.runner.finished + len(self.held) >= limit:
            return True
        return self.options.burst and not took and len(self.held) == 0

    def _starter(self, slots: int) -> Starter:
        return Starter(worker_id=self.id, slots=slots, queues=self.queues, alone=self.slots == 1)

    def _continue_with(self) -> Starter | None:
        """A thread may go on with the next stage unless the process drains or a suspect waits to run alone."""
        if self._stopping.is_set() or self.taker.makes_room or self.taker.runs_alone:
            return None
        return self._starter(1)

    def _watch(self) -> None:
        """Fence off bodies that are over their time and let other threads take their places."""
        now = time.monotonic()
        for held in self.held.all():
            thread = self.runner.thread_of(held)
            over = held.deadline is not None and now > held.deadline
            if not over or held.timed_out or thread is None or self._pool is None:
                continue
            held.timed_out = True
            self._pool.give_up(thread)
            if held.lost.is_set():
                # Nobody waits for its result any more, but its thread may hang all the same.
                self.held.remove(held)
            else:
                # In the thread that takes its place: the run may be locked, and others' deadlines do not wait.
                held.lost.set()
                self._pool.submit(lambda held=held: self.runner.time_out(held))  # type: ignore[misc]

    def _drain(self) -> None:
        self._stopping.set()
        end = time.monotonic() + self.grace
        while len(self.held) and time.monotonic() < end and not self._hurry.is_set():
            self.held.wait_below(1, timeout=0.1)
        try:
            # What the database says, not what is held: a finish under way may have started the next stage, and a take
            # that failed half-way has started some too. Again until nothing is left: each round settles such a finish.
            for _ in range(10):
                for held in self.held.all():
                    held.lost.set()
                tokens = self.kernel.dispatch(Beat(worker=self.facts, running={})).unknown
                if not tokens:
                    break
                released = self.kernel.dispatch(ReleaseStages(worker_id=self.id, tokens=tokens)).released
                logger.info("stages released unfinished worker=%s count=%s", self.id, len(released))
        except (WorkflowEngineError, Error) as error:
            logger.warning("stages not released, their lease will end worker=%s error=%s", self.id, error)

    def _say_goodbye(self) -> None:
        try:
            self.kernel.dispatch(Beat(worker=self.facts, running={}, stopping=True))
        except (WorkflowEngineError, Error) as error:
            logger.warning("last beat failed worker=%s error=%s", self.id, error)

    def _wait_for_database(self) -> None:
        """Register with a first beat; a database that is away is waited for, and that is said once."""
        tries = 0
        while not self._stopping.is_set():
            try:
                self.beat()
                return
            except (WorkflowEngineError, Error) as error:
                tidy_connections()
                tries += 1
                if tries == 1:
                    logger.warning("waiting for the database error=%s", error)
                self._stopping.wait(min(0.2 * 2**tries, 5))

    def _describe(self) -> WorkerFacts:
        host = socket.gethostname()
        return WorkerFacts(
            id=self.id,
            name=self.options.name or f"{host}:{os.getpid()}",
            host=host,
            pid=os.getpid(),
            version=_version(),
            slots=self.slots,
            queues=self.queues,
            workflows=tuple(self.kernel.ports.known_workflows()),
        )


def _version() -> str:
    try:
        return importlib.metadata.version("django-durable-workflows")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
