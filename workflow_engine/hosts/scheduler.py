"""What is due by its time in a worker: a thread that sleeps until the first of it is."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper, Subquery

from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FireSchedules
from workflow_engine.models import WorkerHeartbeat
from workflow_engine.models.scheduled_commands import first_due

from .loops import Loop

# It asks by itself this often at least; what becomes due sooner is told by those who look for work.
SELDOM_SECONDS = 60.0
# What is due and could not be done (somebody else is at it, or holds its run) is tried again after this.
AGAIN_SECONDS, SHORTEST_SECONDS = 0.5, 0.02


class Scheduler:
    """Any number of processes may do this at the same time."""

    def __init__(self, kernel: Kernel, worker_id: uuid.UUID, batch: int) -> None:
        self._kernel, self._worker_id, self._batch = kernel, worker_id, batch
        self._until = 0.0
        # The last turn could do nothing about what is due.
        self._in_vain = False
        self._turn = threading.Lock()
        # What was done so far, and how much of it ``is_idle`` knows.
        self._done, self._known = 0, 0
        self.loop = Loop("schedules", self.step, SELDOM_SECONDS)

    def step(self) -> float:
        """Do what is due; return in how many seconds something will be."""
        with self._turn:
            return self._step()

    def _step(self) -> float:
        # Whatever is expected from here on may be missing in what is read below.
        self._until, self._in_vain = float("inf"), False
        try:
            due, did = self._due_in(), 0
            if due is not None and due <= 0:
                did = self._kernel.dispatch(FireSchedules(max=self._batch)).fired
                self._done += did
                due = self._due_in()
        except BaseException:
            # The loop decides when it is tried again.
            self._until, self._in_vain = 0.0, True
            raise
        wait = SELDOM_SECONDS if due is None else min(SELDOM_SECONDS, max(due, SHORTEST_SECONDS))
        if due is not None and due <= 0:
            wait, self._in_vain = (SHORTEST_SECONDS, False) if did else (AGAIN_SECONDS, True)
        self._until = time.monotonic() + wait
        return wait

    def expect(self, seconds: float | None) -> None:
        """Somebody has seen that something is due in so many seconds (None: nothing): look then, if not sooner."""
        if seconds is not None and seconds <= 0 and self._until == float("inf"):
            # A step is under way, and asks at its end for what is due then.
            return
        if seconds is not None and time.monotonic() + seconds < self._until - AGAIN_SECONDS:
            self.loop.wake()

    def is_idle(self) -> bool:
        """Whether nothing is due now that could be done here, and nothing was done since the last call."""
        with self._turn:
            due = self._due_in()
            known, self._known = self._known, self._done
            # What was done may have made runs that the caller has not looked for yet.
            return known == self._done and (due is None or due > 0 or self._in_vain)

    def _due_in(self) -> float | None:
        """Return in how many seconds something is due, None if nothing ever is; one statement."""
        using, now = self._kernel.ports.using, self._kernel.ports.clock.db_now()
        if self._kernel.ports.is_frozen:
            return first_in([at for rows in first_due(using) for row in rows for at in row.values()], now)
        myself = WorkerHeartbeat.objects.using(using).filter(pk=self._worker_id)
        firsts = [Subquery(rows) for rows in first_due(using)]
        found: Any = myself.values_list(*firsts, ExpressionWrapper(now, DateTimeField())).first()
        if found is None:
            # Our own row is gone; the next beat writes it anew.
            return AGAIN_SECONDS
        *times, read_at = found
        return first_in(times, read_at)


def first_in(firsts: Iterable[datetime | None], now: datetime) -> float | None:
    """Return in how many seconds the first of these times is, None if there is none."""
    return min(((first - now).total_seconds() for first in firsts if first is not None), default=None)
