"""The worker: takes due work, runs it in threads, beats, ticks, and drains when it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from django.db import connections

from workflow_engine.conf import get_setting
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.recorder import Recorder, RecorderThread
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.pausing import KEPT_SECONDS
from workflow_engine.kernel.ports import Message

from .beating import Beating
from .bulk import BulkWork
from .deadlines import Deadlines
from .flusher import Flusher
from .lane import CheckLane
from .loops import Loop
from .options import WorkerOptions, describe_worker
from .orchestrator import Orchestrator
from .pool import ThreadPool
from .pruner import Pruner
from .room import Room
from .runner import Runner
from .scheduler import Scheduler
from .sleepers import Sleepers
from .taking import Taker
from .watch import Watch

logger = logging.getLogger(__name__)
WATCH_SECONDS = 0.5
POLL_SHARE = 0.93
# Where the transport rings, a worker with nothing to do looks for itself this often.
LONGEST_REST_SECONDS = 30.0
# What is seen by whoever looks for work is looked for by itself only so often.
SELDOM_SECONDS = 60.0
SUSPENDED_SECONDS, AGAIN_SECONDS, SHORTEST_REST_SECONDS = 1.0, 0.05, 0.02
GATHER_SECONDS = 0.05
# So many threads may hang in any worker before it drains, however few slots it has.
FEWEST_ZOMBIES = 4
# How long bodies that are thought to be quick may wait for a thread.
SPREAD_SECONDS = 0.001


class Worker:
    """One process's worker. Its identity is a boot uuid, never a host name: a restarted process is another worker."""

    def __init__(self, kernel: Kernel, options: WorkerOptions | None = None) -> None:
        self.kernel, self.options = kernel, options or WorkerOptions()
        self.id = self.options.id or uuid.uuid4()
        self.slots = self.options.threads or get_setting("WORKER_THREADS")
        self.tasks: int = get_setting("WORKER_ASYNC_STAGES")
        self.grace = get_setting("GRACE_SECONDS") if self.options.grace is None else self.options.grace
        limits = kernel.ports.limits
        self.lease = Lease(limits.lease_seconds, margin=min(limits.beat_seconds, limits.lease_seconds / 3))
        self.held = HeldStages()
        self.recorder = Recorder(kernel.ports)
        self.runner = Runner(kernel, self.held, self.recorder, self.lease, supply=self)
        self.watch = Watch(kernel, self.id, self.held, self.runner)
        self.taker = Taker(kernel, self.options.run_id, self.id, self.runner.turns)
        self.facts = describe_worker(self.id, self.options, self.slots, kernel.ports)
        self.room = Room(
            kernel.ports,
            self.id,
            self.held,
            self.runner,
            slots=self.slots,
            tasks=self.tasks,
            queues=self.facts.queues,
            most_jobs=self.options.max_jobs,
        )
        self.lane = CheckLane(
            kernel,
            self.id,
            self.recorder,
            self.lease,
            size=get_setting("WORKER_CHECKS"),
            freed=self.stage_suspended,
            queues=self.facts.queues,
            run_id=self.options.run_id,
        )
        self.scheduler = Scheduler(kernel, self.id, get_setting("TICK_BATCH"))
        self.sleepers = Sleepers(
            kernel,
            self.lane,
            self.id,
            wakes=self.options.orchestrate,
            batch=get_setting("TICK_BATCH"),
            queues=self.facts.queues,
            run_id=self.options.run_id,
            sees_scheduled=self.scheduler.expect if self._serves_all else None,
        )
        self._sleep_loop = Loop("sleepers", self._look_after_suspended, get_setting("TICK_SECONDS"))
        self.bulk = BulkWork(kernel, get_setting("TICK_BATCH"))
        self._bulk_loop = Loop("bulk", self.bulk.step, SELDOM_SECONDS)
        self.flusher = Flusher(kernel, self.id, get_setting("TICK_SECONDS"))
        self.pruner = Pruner(kernel, get_setting("TICK_BATCH"))
        self._beating = Beating(
            kernel, self.facts, self.held, self.lane, self.lease, lose=self._lose, zombies=lambda: self.zombies
        )
        self._stopping, self._hurry = threading.Event(), threading.Event()
        self._poll: float = get_setting("POLL_SECONDS")
        self._backlog = False
        # The main loop rests although all slots are taken: it waits for work for the event loop.
        self._wants_slot = False
        # The last look found nothing that is due; and something ran at that time, which may have left more to do.
        self._idle, self._was_busy = False, False
        self._pool: ThreadPool | None = None
        self._deadlines: Deadlines | None = None
        # It drains by itself, because too many of its threads hang.
        self._overrun = False

    def run(self) -> int:
        """Work until told to stop (or, in a burst, until nothing is left); return how many attempts ended here."""
        self._beating.wait_for_database(self._stopping)
        self._beating.report_dead(self.options.dead)
        # Two more than there are slots: the threads that finish what others have run take nobody's place.
        # And one at least is left to others by items of maps, however many of those hang.
        self._pool = pool = ThreadPool(self.slots + 2, items=self.room.threads_for_items)
        self.runner.use(pool)
        writer = RecorderThread(self.recorder.flush)
        loops = self._loops()
        writer.start()
        for loop in loops:
            loop.start()
        if self.options.attach:
            self.kernel.ports.transport.attach(self.facts)
        logger.info("worker started worker=%s name=%s slots=%s", self.id, self.facts.name, self.slots)
        try:
            self._take_until_stopped()
        finally:
            self._drain()
            for loop in reversed(loops):
                loop.stop()
            self.runner.stop()
            pool.stop()
            writer.stop()
            if self.options.attach:
                self.kernel.ports.transport.detach()
            self._beating.say_goodbye()
            connections.close_all()
            logger.info("worker stopped worker=%s finished=%s", self.id, self.runner.finished)
        return self.runner.finished

    def stop(self) -> None:
        """Take no more work and let bodies finish up to the grace time; a second call hurries."""
        if self._stopping.is_set() and not self._overrun:
            self._hurry.set()
        self._overrun = False
        self._stopping.set()
        self.kernel.ports.transport.push([])

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def zombies(self) -> int:
        """How many threads hang in bodies that are over their time."""
        return (self._pool.zombies if self._pool else 0) + self.runner.zombies + self.lane.zombies

    def beat(self) -> None:
        """Renew the lease now."""
        self._beating.beat()

    def _loops(self) -> list[Loop | Flusher]:
        limits = self.kernel.ports.limits
        loops: list[Loop | Flusher] = [
            Loop("beat", self.beat, limits.beat_seconds),
            Loop("watch", self._watched, WATCH_SECONDS),
        ]
        loops.append(self._sleep_loop)
        if self.options.orchestrate:
            orchestrator = Orchestrator(self.kernel, claims=False, loops=False, lease=self.lease)
            loops.append(Loop("tick", orchestrator.tick, get_setting("TICK_SECONDS")))
            if self._serves_all:
                loops += [self._bulk_loop, self.flusher, self.scheduler.loop, self.pruner.loop]
            if Deadlines.needed(self.kernel):
                self._deadlines = Deadlines(self.kernel)
                loops.append(self._deadlines.loop)
        return loops

    @property
    def _serves_all(self) -> bool:
        # Whoever drives one run does no work of others.
        return self.options.orchestrate and self.options.run_id is None

    def _take_until_stopped(self) -> None:
        failures, rung = 0, False
        while not self._stopping.is_set():
            if not self.kernel.ports.loop_stages() and not self.held.wait_for(
                self.room.is_there, POLL_SHARE * self._poll
            ):
                continue
            if self._backlog and self.runner.finisher.is_leading:
                # More is waiting than fits, and whoever finishes takes it.
                self.held.wait_below(1, timeout=GATHER_SECONDS)
            try:
                took = self._take(rung) > 0
                self.runner.spread(after=SPREAD_SECONDS)
                if failures:
                    logger.info("taking work again worker=%s", self.id)
                failures = 0
                if self._is_done(took):
                    break
                rung = False if took else self._rest()
            except Exception as error:
                failures += 1
                if failures == 1:
                    logger.warning("cannot take work, goes on trying error=%s: %s", type(error).__name__, error)
                tidy_connections()
                self._stopping.wait(min(0.1 * 2**failures, 5))

    def _take(self, rung: bool, *, slots_only: bool = False) -> int:
        """Start what is due, as far as there are free slots; return how much."""
        # Whoever cannot beat takes nothing: it would be taken away again at once.
        if self.lease.is_over:
            self._idle = False
            return 0
        if self._suspended:
            self._idle, self._was_busy = True, len(self.held) > 0
            return 0
        self._wants_slot = bool(self.kernel.ports.loop_stages())
        with self.runner.turns.taking(wait=not slots_only) as mine:
            if not mine:
                return 0
            starter = self._starter()
            if slots_only and starter.tasks is not None:
                starter = replace(starter, tasks=0)
            if starter.room <= 0 or self._stopping.is_set():
                self._idle = False
                return 0
            was_busy = len(self.held) > 0
            taken = self.taker.take(starter, len(self.held))
            self._pass_on()
            if not slots_only:
                # What was not asked for may be due all the same.
                self._idle, self._was_busy = not self.taker.saw_work, was_busy
            self.runner.take(taken)
        if self._deadlines is not None:
            self._deadlines.expect(taken)
        self._backlog = bool(taken) and self.room.free_slots <= 0
        if rung and self._backlog and self.options.attach:
            # Woken by a bell, and there was more than fits: others may be idle.
            queues = {stage.queue for stage in taken}
            self.kernel.ports.transport.push([Message(queue) for queue in queues])
        return len(taken)

    def _pass_on(self) -> None:
        """Wake those loops for which the last look has seen something."""
        if self.taker.saw_notices:
            self._sleep_loop.wake()
        if self.taker.saw_bulk:
            self._bulk_loop.wake()
        if self.taker.saw_news:
            self.flusher.wake()
        self.scheduler.expect(self.taker.scheduled_in)

    def refill(self) -> int:
        """Take more in the thread that has just finished some; only while more is known to wait than fits."""
        if not self._backlog or self._stopping.is_set():
            return 0
        try:
            return self._take(rung=False, slots_only=True)
        except Exception:
            # The main loop meets the same error, and deals with it.
            logger.debug("cannot take work while finishing", exc_info=True)
            tidy_connections()
            return 0

    def _rest(self) -> bool:
        """Wait until something rings or is due; return whether it rang."""
        transport = self.kernel.ports.transport
        if self._wants_slot and not self.room.is_there():
            # Nothing for the event loop; a slot that becomes free rings.
            wait = POLL_SHARE * self._poll
        elif not self._idle:
            # Something is due that could not be had just now: somebody holds its run for a moment.
            wait = AGAIN_SECONDS
        elif not self.options.attach or transport.polls:
            # A little less than promised, so that the look itself and the start fit into it too.
            wait = POLL_SHARE * self._poll
        elif self._suspended:
            wait = SUSPENDED_SECONDS
        else:
            due = self.taker.next_due_in()
            self._pass_on()
            wait = LONGEST_REST_SECONDS if due is None else min(LONGEST_REST_SECONDS, max(due, SHORTEST_REST_SECONDS))
        if self.kernel.ports.pauses_known():
            # Other processes' bells may come before this one has heard that the pause is over.
            wait = min(wait, KEPT_SECONDS)
        if self.options.burst:
            # Nobody rings when the last body ends.
            wait = min(wait, POLL_SHARE * self._poll)
        return bool(transport.pop(wait))

    @property
    def _suspended(self) -> bool:
        return self.options.attach and self.kernel.ports.transport.suspended

    def _is_done(self, took: bool) -> bool:
        limit = self.options.max_jobs
        if limit is not None and self.runner.finished + len(self.held) >= limit:
            # Without the grace time: nobody has asked this process to stop.
            while not self._stopping.is_set() and not self.held.wait_empty(timeout=0.1):
                pass
            return True
        if not self.options.burst or took or not self._idle or self._was_busy or len(self.held):
            return False
        return self.sleepers.is_idle() and (not self._serves_all or self._others_are_idle())

    def _others_are_idle(self) -> bool:
        return self.scheduler.is_idle() and self.bulk.is_idle() and self.flusher.is_idle()

    def _starter(self) -> Starter:
        """Return what there is room for."""
        return self.room.starter()

    def continue_with(self, ended: Sequence[Held]) -> Starter | None:
        """Return with what the places of those that end may go on; None while the process drains, or a suspect waits
        to run alone."""
        if self._stopping.is_set() or self._suspended or self.taker.makes_room or self.taker.runs_alone:
            return None
        return self.room.after(ended)

    def slot_freed(self) -> None:
        """Let the main loop look again, if it rests because there was no slot."""
        if self._wants_slot:
            self._wants_slot = False
            self.kernel.ports.transport.push([])

    def _look_after_suspended(self) -> float | None:
        if self._stopping.is_set() or self._suspended:
            return SUSPENDED_SECONDS
        # Also while this process cannot beat: the lane claims nothing then.
        return self.sleepers.step()

    def stage_suspended(self) -> None:
        """Let the loop of suspended stages look again: something may be due sooner than it knows."""
        self._sleep_loop.wake()

    def _lose(self, held: Held) -> None:
        held.lost.set()
        self.runner.tell_lost(held)

    def _watched(self) -> None:
        if self._pool is not None:
            self.watch.look(self._pool)
        self.lane.look()
        self._limit_zombies()
        if self.options.attach:
            self.kernel.ports.transport.beat(len(self.held), self.runner.finished)

    def _limit_zombies(self) -> None:
        """Drain, so that another process takes over, once more threads hang than there are slots (at least 4)."""
        most, zombies = max(self.slots, FEWEST_ZOMBIES), self.zombies
        if zombies <= most or self._stopping.is_set():
            return
        logger.warning(
            "too many threads hang in bodies that are over their time, draining worker=%s zombies=%s most=%s",
            self.id,
            zombies,
            most,
        )
        self.stop()
        self._overrun = True

    def _drain(self) -> None:
        self._stopping.set()
        end = time.monotonic() + self.grace
        self.runner.turns.await_all(self.grace)
        while (len(self.held) or len(self.lane.held)) and time.monotonic() < end and not self._hurry.is_set():
            (self.held if len(self.held) else self.lane.held).wait_empty(timeout=0.1)
        self.lane.stop(0)
        self._beating.give_back()
