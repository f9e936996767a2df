"""Delivering events in a worker: one thread hands them on; each subscriber has one of its own, or shares a few."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db.models import DateTimeField, Exists, ExpressionWrapper, Min, Subquery, Value

from workflow_engine.conf import get_setting
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FlushOutbox, FlushOutboxResult, SweepWebhooks
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent, WorkerHeartbeat
from workflow_engine.models.base import read_clock

from .loops import Loop
from .sharing import SharedThreads, Turn

# Events to a subscriber that are written down together at the latest.
MOST_AT_ONCE = 200
SHORTEST_SECONDS = 0.05
# After handing on, the loop rests as long as that took, up to this.
REST_SECONDS = 0.002
# Whoever delivers is woken; this is only how often it looks for itself.
SELDOM_SECONDS = 60.0
# Of those who share threads: a turn takes about so long, and longer ones only if something hangs.
TURN_SECONDS, SLOW_SECONDS, LONGEST_REST_SECONDS = 1.0, 5.0, 5.0
# Events of a first turn.
FIRST_EVENTS = 10
NO_TURN = FlushOutboxResult()
# The turn of whoever sweeps: no subscriber is called so.
SWEEPER = ""


class Flusher:
    """Any number of processes may deliver at the same time. A subscriber that hangs holds up its own thread only."""

    def __init__(self, kernel: Kernel, worker_id: uuid.UUID, every: float) -> None:
        self._kernel, self._worker_id = kernel, worker_id
        self.loop = Loop("flush", self._step, every)
        self._deliverers: dict[str, Loop] = {}
        self._shared = SharedThreads("deliver", self._turn, get_setting("WEBHOOK_THREADS"))
        # When to look for what nobody wants to hear of any more.
        self._sweep_at = 0.0
        # Events that a subscriber takes in a turn.
        self._pace: dict[str, int] = {}
        self._busy: set[str] = set()
        self._rounds = 0
        self._lock = threading.Lock()
        self._stopped = self._told = False

    def start(self) -> None:
        """Have this process deliver what it commits, from now on."""
        self._unlisten = self._kernel.ports.subscribers.listen(self.wake)
        self.loop.start()

    def stop(self, timeout: float = 5) -> None:
        """Begin with no further deliveries, and wait a moment for those under way."""
        self._unlisten()
        with self._lock:
            self._stopped = True
            deliverers = list(self._deliverers.values())
        end = time.monotonic() + timeout
        self.loop.stop(timeout)
        for deliverer in deliverers:
            deliverer.stop(0)
        self._shared.stop(max(0.0, end - time.monotonic()))
        for deliverer in deliverers:
            # One that hangs is not to cost the others' time too.
            deliverer.stop(max(0.0, end - time.monotonic()))

    def wake(self) -> None:
        """There is something new to hand on."""
        self._told = True
        self.loop.wake()

    def is_idle(self) -> bool:
        """Whether nothing is to be delivered now, and nothing is being delivered."""
        names = [one.name for one in self._kernel.ports.subscribers.all()]
        if not names:
            return True
        with self._lock:
            busy, rounds = bool(self._busy), self._rounds
        waiting = OutboxEvent.objects.using(self._kernel.ports.using).to_hand_on()
        if busy or waiting.exists() or self._due_in(names)[0]:
            return False
        with self._lock:
            # What was claimed between the questions is not due, and was in nobody's hands.
            return not self._busy and rounds == self._rounds

    def _step(self) -> float | None:
        """Hand on what is new and wake those for whom something is due; return in how many seconds more will be."""
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SELDOM_SECONDS
            # Not here: after a webhook with many runs was deleted it may take a while.
            self._shared.wake(SWEEPER)
        # Who has told it is told at once; everybody else is asked after.
        told, self._told = self._told, False
        known = self._kernel.ports.subscribers.all() if told else self._kernel.ports.subscribers.glance()
        names = [one.name for one in known]
        if not names:
            return None
        began = time.monotonic()
        more = self._hand_on() if told else False
        is_new, wait = self._look(names)
        if is_new:
            more = self._hand_on()
        if wait is not None and wait <= 0:
            due, wait = self._due_in(names)
            for name in due:
                self._wake_deliverer(name)
        if told or is_new:
            # What comes meanwhile is handed on together: others have work to do too.
            self._kernel.ports.clock.pause(min(time.monotonic() - began, REST_SECONDS))
        return 0.0 if more else wait

    def _hand_on(self) -> bool:
        """Hand on what is new and wake those who are to hear of it; return whether there is more."""
        made = self._kernel.dispatch(FlushOutbox(subscriber=""))
        for name in made.news_for:
            self._wake_deliverer(name)
        return made.more

    def _look(self, names: Sequence[str]) -> tuple[bool, float | None]:
        """Return whether anything is to be handed on, and in how many seconds something is due; one statement."""
        ports = self._kernel.ports
        using, now = ports.using, ports.clock.db_now()
        cursors = EventCursor.objects.using(using).filter(subscriber__in=names).order_by("due_at")
        letters = DeadLetter.objects.using(using).filter(subscriber__in=names, replay_at__isnull=False)
        found = (
            WorkerHeartbeat.objects.using(using)
            .filter(pk=self._worker_id)
            .values_list(
                Exists(OutboxEvent.objects.using(using).to_hand_on()),
                Subquery(cursors.values("due_at")[:1]),
                Subquery(letters.order_by("replay_at").values("replay_at")[:1]),
                ExpressionWrapper(now if hasattr(now, "resolve_expression") else Value(now), DateTimeField()),
            )
            .first()
        )
        if found is None:
            # Our own row is gone: then it is looked for in another way.
            return True, 0.0
        is_new, *firsts, read_at = found
        waits = [(first - read_at).total_seconds() for first in firsts if first is not None]
        return is_new, min(waits, default=None)

    def _due_in(self, names: Sequence[str]) -> tuple[list[str], float | None]:
        """Return for whom something is due, and in how many seconds something will be for others."""
        using = self._kernel.ports.using
        firsts: dict[str, datetime] = {}
        for model, column in ((EventCursor, "due_at"), (DeadLetter, "replay_at")):
            rows = model._default_manager.using(using).filter(subscriber__in=names, **{f"{column}__isnull": False})
            for name, first in rows.order_by().values_list("subscriber").annotate(first=Min(column)):
                firsts[name] = min(first, firsts.get(name, first))
        if not firsts:
            return [], None
        now = self._kernel.ports.clock.now() if self._kernel.ports.is_frozen else read_clock(using)
        waits = {name: (first - now).total_seconds() for name, first in firsts.items()}
        later = [seconds for seconds in waits.values() if seconds > 0]
        due = [name for name, seconds in waits.items() if seconds <= 0]
        return due, max(SHORTEST_SECONDS, min(later)) if later else None

    def _wake_deliverer(self, name: str) -> None:
        subscriber = self._kernel.ports.subscribers.get(name)
        if subscriber is None:
            # It has gone while it was written down what it is to hear of.
            self._shared.wake(SWEEPER)
            return
        if subscriber.shares_threads:
            self._shared.wake(name)
            return
        with self._lock:
            deliverer = self._deliverers.get(name)
            if deliverer is None:
                deliverer = Loop(f"deliver-{name}"[:60], lambda: self._deliver(name), SELDOM_SECONDS)
                self._deliverers[name] = deliverer
                # Its first turn comes at once.
                if not self._stopped:
                    deliverer.start()
            else:
                deliverer.wake()

    def _deliver(self, name: str) -> float | None:
        """Deliver what is due for one subscriber; return when to come back."""
        return 0.0 if self._deliver_some(name, MOST_AT_ONCE).more else None

    def _turn(self, name: str) -> Turn:
        """Deliver about as much as can be done in a moment, so that others have their turn."""
        if name == SWEEPER:
            self._sweep()
            return Turn()
        began, most = time.monotonic(), self._pace.get(name, FIRST_EVENTS)
        made = self._deliver_some(name, most)
        seconds = time.monotonic() - began
        if made.delivered:
            pace = made.delivered / max(seconds, 0.001) * TURN_SECONDS
            self._pace[name] = max(1, min(MOST_AT_ONCE, 2 * most, round(pace)))
        # After a while it is looked at again whether that rest is still meant: its row says so.
        rest = min(made.rest, LONGEST_REST_SECONDS)
        return Turn(rest or (0.0 if made.more else None), is_slow=made.rest > 0 or seconds > SLOW_SECONDS)

    def _deliver_some(self, name: str, most: int) -> FlushOutboxResult:
        if self._stopped:
            return NO_TURN
        if self._kernel.ports.subscribers.get(name) is None:
            self._shared.wake(SWEEPER)
            return NO_TURN
        with self._lock:
            self._busy.add(name)
            self._rounds += 1
        try:
            made = self._kernel.dispatch(FlushOutbox(subscriber=name, max=most))
        finally:
            with self._lock:
                self._busy.discard(name)
        if made.failed:
            # Whoever hands on knows when it is tried again.
            self.loop.wake()
        return made

    def _sweep(self) -> None:
        """Drop what is for webhooks that are disabled or gone; hand on what nobody wants to hear of any more."""
        self._kernel.dispatch(SweepWebhooks())
        more = not self._kernel.ports.subscribers.all()
        while more and not self._stopped:
            more = self._kernel.dispatch(FlushOutbox(subscriber="")).more
