"""Looking after suspended stages: what is due for them is done when it is due, and the loop sleeps until then."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import DateTimeField, Exists, ExpressionWrapper, QuerySet, Subquery

from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import DeliverNotices, WakeSuspendedStages
from workflow_engine.kernel.pausing import Pauses
from workflow_engine.models import Pause, RunNotice, StageRun, WorkerHeartbeat
from workflow_engine.models.compiled import THIS_RUN, THIS_WORKER, rows_of
from workflow_engine.models.runs import family
from workflow_engine.models.scheduled_commands import first_due
from workflow_engine.models.suspensions import SuspendedRows

from .lane import CheckLane
from .scheduler import first_in

SINCE_LOOK = timedelta(seconds=1)
# What is due but could not be done (its run is held, its code is not here) is tried again after this.
AGAIN_SECONDS = 1.0
# Between two looks at least: where something has just fallen due, and where what is due is left as it is.
SOON_SECONDS, LEFT_SECONDS = 0.02, 0.2
# Waits without an end in sight are looked at this often all the same.
LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The rows that are looked for: what is due, what will be, and what is to be told."""

    due: Any
    checks: Any
    coming: Any
    notices: Any


class Sleepers:
    """Ends timers and overdue waits, and lets the lane make the checks that are due.

    Args:
        wakes: False: this process only makes checks; timers and deadlines are left to others.
        sees_scheduled: is told in how many seconds the first that is scheduled is due, whenever this looks.
    """

    def __init__(
        self,
        kernel: Kernel,
        lane: CheckLane,
        worker_id: uuid.UUID,
        *,
        wakes: bool,
        batch: int,
        queues: Sequence[str] | None = None,
        run_id: uuid.UUID | None = None,
        sees_scheduled: Callable[[float | None], None] | None = None,
    ) -> None:
        self._kernel, self._lane, self._worker_id = kernel, lane, worker_id
        self._wakes, self._batch, self._run_id = wakes, batch, run_id
        self._queues = None if queues is None else tuple(queues)
        self._sees_scheduled = sees_scheduled
        self._turn = threading.Lock()
        # What was done so far, and how much of it ``is_idle`` knows.
        self._done, self._known = 0, (0, 0)

    def step(self) -> float:
        """Do what is due; return in how many seconds something will be."""
        with self._turn:
            return self._step()

    def _step(self) -> float:
        waking, checkable, seconds, told = self._look()
        wait = LONGEST_SECONDS if seconds is None else max(SOON_SECONDS, seconds)
        if seconds is not None and seconds < 0 and (not self._lane.free if checkable else not waking):
            # What is due cannot be done here now: all threads make checks, its run is paused, its code is not here.
            wait = LEFT_SECONDS
        if told and self._wakes:
            delivered = self._kernel.dispatch(DeliverNotices(max=self._batch, run_id=self._run_id)).delivered
            self._done += delivered
            # Some may have been left, as somebody holds their run just now.
            wait = 0.0 if delivered else min(wait, LEFT_SECONDS)
        if waking and self._wakes:
            done = self._kernel.dispatch(WakeSuspendedStages(max=self._batch, run_id=self._run_id))
            progress = len(done.resumed) + len(done.failed)
            self._done += progress
            # Some of what was due may have been left: there is another look soon.
            wait = 0.0 if progress and done.is_full else min(wait, AGAIN_SECONDS)
        if checkable and self._lane.free:
            room = self._lane.free
            taken = self._lane.take()
            # A full lane says by itself when a thread is free.
            wait = min(wait, 0.0 if taken == room else AGAIN_SECONDS if not taken else wait)
        return wait

    def is_idle(self) -> bool:
        """Whether nothing is due, no check is under way, and nothing was done since the last call."""
        with self._turn:
            waking, checkable, _, told = self._look()
            known, self._known = self._known, (self._done, self._lane.ended)
            busy = checkable or ((waking or told) and self._wakes) or len(self._lane.held) > 0
        # What was done may have made stages due that the caller has not looked for yet.
        return not busy and known == self._known

    def _look(self) -> tuple[bool, bool, float | None, bool]:
        """Return (is a timer or deadline over, is a check due, seconds until the next of all, is a run to be told
        something); one statement.

        Below 0: it fell due a moment ago.
        """
        ports = self._kernel.ports
        pauses = ports.glance_at_pauses()
        if ports.is_frozen:
            return self._look_frozen(pauses)
        known, takable = ports.known_stages(), tuple(ports.takable_workflows(pauses))
        found = rows_of(
            ports.using,
            # Everything that the statement is made of, but for the ids.
            (
                "sleepers",
                tuple(known.items()),
                takable,
                self._queues,
                pauses.queues,
                self._run_id is None,
                self._sees_scheduled is None,
            ),
            lambda: self._question(self._asked(pauses)),
            places={THIS_WORKER: self._worker_id, **({} if self._run_id is None else {THIS_RUN: self._run_id})},
        )
        if not found:
            # Our own row is gone (pruned, or not written yet): the next beat writes it anew.
            asked = self._asked(pauses, self._run_id)
            due = asked.notices.due(ports.clock.db_now()).exists()
            return asked.due.exists(), asked.checks.exists(), AGAIN_SECONDS, due
        waking, checkable, first, read_at, any_paused, told_at, *scheduled = found[0]
        if self._sees_scheduled is not None:
            self._sees_scheduled(first_in(scheduled, read_at))
        if not ports.confirm_pauses(pauses, any_paused):
            return self._look()
        return waking, checkable, *_soonest(first, told_at, read_at)

    def _look_frozen(self, pauses: Pauses) -> tuple[bool, bool, float | None, bool]:
        """``_look`` by a test's clock, which no statement can read."""
        asked, now = self._asked(pauses, self._run_id), self._kernel.ports.clock.now()
        first = asked.coming.filter(wake_at__gt=now).values_list("wake_at", flat=True).first()
        told_at = asked.notices.values_list("due_at", flat=True).first()
        return asked.due.exists(), asked.checks.exists(), *_soonest(first, told_at, now)

    def _question(self, asked: _Asked) -> QuerySet[Any]:
        using, now = self._kernel.ports.using, self._kernel.ports.clock.db_now()
        return (
            WorkerHeartbeat.objects.using(using)
            .filter(pk=THIS_WORKER)
            .values_list(
                Exists(asked.due),
                Exists(asked.checks),
                Subquery(asked.coming.values("wake_at")[:1]),
                ExpressionWrapper(now, DateTimeField()),
                Exists(Pause.objects.using(using).all()),
                Subquery(asked.notices.values("due_at")[:1]),
                *(Subquery(rows) for rows in (first_due(using) if self._sees_scheduled else ())),
            )
        )

    def _asked(self, pauses: Pauses, run_id: uuid.UUID | None = THIS_RUN) -> _Asked:
        ports = self._kernel.ports
        now, rows = ports.clock.db_now(), self._rows(run_id)
        # Due, or to come: a limit may let a run begin only later.
        notices = RunNotice.objects.using(ports.using).order_by("due_at", "id")
        return _Asked(
            due=rows.waking(now, ports.known_stages()) | rows.rechecked(now),
            checks=rows.checkable(now, self._queues, ports.takable_workflows(pauses), paused=pauses.queues),
            # A moment back: what fell due since the last look is not to be missed.
            coming=rows.suspended().filter(wake_at__gt=now - SINCE_LOOK, worker__isnull=True).order_by("wake_at"),
            notices=notices if run_id is None or self._run_id is None else notices.filter(family("run", run_id)),
        )

    def _rows(self, run_id: uuid.UUID | None) -> Any:
        rows: SuspendedRows = StageRun.objects.using(self._kernel.ports.using)
        return rows if run_id is None or self._run_id is None else rows.filter(family("run", run_id))


def _soonest(wake_at: datetime | None, told_at: datetime | None, now: datetime) -> tuple[float | None, bool]:
    """Return in how many seconds the next of the two comes, and whether the second has come."""
    told = told_at is not None and told_at <= now
    times = [at for at in (wake_at, None if told else told_at) if at is not None]
    return (min(times) - now).total_seconds() if times else None, told
