"""One step, one transaction: the state change and its events commit together; doorbells ring after it."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db import Error, connections, transaction
from django.db.models import Model, QuerySet

from workflow_engine.definitions.stages import DEFAULT_QUEUE
from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, InvalidTransition
from workflow_engine.models import OutboxEvent, RunNotice, StageRun, WorkflowRun
from workflow_engine.models.base import DbClock, lock_rows, read_clock
from workflow_engine.models.batch import Batch, RunChange
from workflow_engine.models.locking import lock_by_id, lock_claimable, lock_whole
from workflow_engine.models.rows import Row
from workflow_engine.models.runs import HOT_COLUMNS
from workflow_engine.statuses import FINISHED_RUN, NoticeKind, RunStatus

from .conflicts import is_conflict, is_lost
from .events import Event
from .new_stages import NewStage
from .ports import Message, Ports
from .subscribers import Committed
from .totals import totals_of

logger = logging.getLogger(__name__)
T = TypeVar("T")
TRIES = 5


@dataclass(slots=True)
class _Pending:
    run: WorkflowRun
    events: list[Event] = field(default_factory=list)
    status: RunStatus | None = None
    leaving: tuple[RunStatus, ...] = ()
    columns: dict[str, Any] = field(default_factory=dict)


class UnitOfWork:
    """What one transaction does to runs. Made by ``transact``; every run in it is locked first."""

    def __init__(self, ports: Ports, causation_id: uuid.UUID, *, repeated: bool = False) -> None:
        self.ports = ports
        self.causation_id = causation_id
        # An earlier try of the same step may have been committed although its answer was lost.
        self.repeated = repeated
        self.now = ports.clock.db_now()
        self._pending: dict[uuid.UUID, _Pending] = {}
        self._messages: list[Message] = []
        self._batch = Batch()
        self._saved = False
        # Another run is told something: whoever delivers that should look soon.
        self.tells = False
        # Somebody wants to hear of what was written.
        self.has_news = False
        announcer = ports.subscribers.announcer
        self._announcer = announcer if announcer is not None and announcer.is_heard else None
        self._announced: list[Committed] = []

    def lock_run(self, run_id: uuid.UUID, *, skip_locked: bool = False) -> WorkflowRun | None:
        """Lock the run until the transaction ends; None if there is none (or, skipping, somebody holds it)."""
        if (held := self._pending.get(run_id)) is not None:
            return held.run
        using = self.ports.using
        if self.ports.is_frozen:
            rows = WorkflowRun.objects.using(using).filter(pk=run_id).select_related("data")
            found = self.lock_runs(rows, wait=not skip_locked)
        else:
            found = [self._hold(*one) for one in lock_whole(using, run_id, wait=not skip_locked)]
        return found[0] if found else None

    def lock_runs(self, runs: QuerySet[WorkflowRun], *, wait: bool = False) -> list[WorkflowRun]:
        """Lock ``runs`` in the query's order; without ``wait`` those that somebody else holds are left out.

        ``now`` is the database's time of the last lock from here on: one value for all that is written.
        """
        locked = lock_rows(runs, skip_locked=not wait)
        if self.ports.is_frozen:
            return [self._hold(run, self.ports.clock.db_now()) for run in locked]
        return [self._hold(run, run.locked_at) for run in locked.annotate(locked_at=DbClock())]

    def lock_hot(self, ids: Sequence[uuid.UUID], *, with_data: bool = False) -> list[WorkflowRun]:
        """``lock_runs`` by id, in order, by a statement that is compiled once; the side rows only if asked for."""
        using = self.ports.using
        if self.ports.is_frozen:
            rows = WorkflowRun.objects.using(using).filter(pk__in=ids).order_by("pk")
            return self.lock_runs(rows.select_related("data") if with_data else rows.only(*HOT_COLUMNS))
        return [self._hold(*found) for found in lock_by_id(using, ids, with_data=with_data)]

    def lock_claimable(self, workflows: Sequence[str], most: int) -> list[WorkflowRun]:
        """Lock the next runs to claim, with their data."""
        using, clock = self.ports.using, self.ports.clock.db_now()
        if self.ports.is_frozen:
            rows = WorkflowRun.objects.using(using).claimable(clock, list(workflows))
            return self.lock_runs(rows.select_related("data")[:most])
        return [self._hold(*found) for found in lock_claimable(using, workflows, most, clock)]

    def _hold(self, run: WorkflowRun, locked_at: datetime) -> WorkflowRun:
        self._pending[run.pk] = _Pending(run)
        # The last of several: no event of theirs is later.
        self.now = max(self.now, locked_at) if isinstance(self.now, datetime) else locked_at
        return run

    def emit(self, run: WorkflowRun, event: Event) -> None:
        """Record an event; it gets the run's next sequence number when the work is saved."""
        self._pending[run.pk].events.append(event)

    def change_run(
        self, run: WorkflowRun, status: RunStatus, *, leaving: tuple[RunStatus, ...], **columns: Any
    ) -> None:
        """Change the run's status when the work is saved, in the statement that allocates the event numbers."""
        pending = self._pending[run.pk]
        pending.status, pending.leaving = status, leaving
        pending.columns |= columns
        if status in FINISHED_RUN and run.parent_run_id is not None:
            self._tell_parent(run)
        if status in FINISHED_RUN and self.ports.is_limited(run.workflow):
            # Others wait for its place.
            self.want_place(run.pk, due_at=self.now)
            self.tells = True
            self.ring_queue(run.plan["groups"][0]["stages"][0]["queue"])
        if run.paused_at is not None and status in FINISHED_RUN:
            # What has ended is not paused, and would not be when it is run again.
            WorkflowRun.objects.using(self.ports.using).resume(run)

    def _tell_parent(self, run: WorkflowRun) -> None:
        """Write down for the run that has started this one that it ends: it is locked by another transaction, later."""
        row = {
            "run_id": run.parent_run_id,
            "stage_run_id": run.parent_stage_run_id,
            "sender": run.pk,
            "kind": NoticeKind.ENDED,
            "generation": 0,
            "due_at": self.now,
            "tries": 0,
        }
        self.insert(RunNotice, [row])
        self.tells = True
        self.ring_queue(run.plan["groups"][0]["stages"][0]["queue"])

    def want_place(self, run_id: uuid.UUID, *, due_at: Any) -> None:
        """Write down that the limit of a run is to be looked at: it waits for a place, or has left one."""
        row = {
            "run_id": run_id,
            "stage_run_id": None,
            "sender": run_id,
            "kind": NoticeKind.PLACE,
            "generation": 0,
            "due_at": due_at,
            "tries": 0,
        }
        self.insert(RunNotice, [row])

    def add_to_totals(self, run: WorkflowRun, metrics: Mapping[str, float]) -> None:
        """Add what a completed stage has cost to the run's totals, in the statement that allocates its events."""
        cost, tokens = totals_of(metrics)
        if cost or tokens:
            run.total_cost += cost
            run.total_tokens += tokens
            self._pending[run.pk].columns |= {"total_cost": run.total_cost, "total_tokens": run.total_tokens}

    def is_ending(self, run: WorkflowRun) -> bool:
        return self._pending[run.pk].status is not None

    def insert(self, model: type[Model], rows: Iterable[Row]) -> None:
        """Insert new rows, given by column, when the work is saved."""
        self._batch.insert(model, rows)

    def new_rows(self, model: type[Model]) -> Sequence[Row]:
        """Return the rows of a table that are to be inserted when the work is saved."""
        return self._batch.rows.get(model, ())

    def time_of_new_rows(self) -> datetime | None:
        """Return the database's time for rows written without a lock; None: the database fills it in by itself."""
        now, using = self.ports.clock.db_now(), self.ports.using
        if not hasattr(now, "resolve_expression"):
            return now  # type: ignore[no-any-return]
        return None if connections[using].vendor == "postgresql" else read_clock(using)

    @property
    def written_at(self) -> datetime | None:
        """The time that the database has filled in."""
        return self._batch.written_at

    def ring(self, stage_run: StageRun | NewStage) -> None:
        """Wake a worker for this stage after the commit."""
        self._messages.append(Message(stage_run.queue, stage_run.pk))

    def ring_all(self, messages: Iterable[Message]) -> None:
        self._messages += messages

    def ring_queue(self, queue: str) -> None:
        self._messages.append(Message(queue))

    def save(self) -> None:
        """Write new rows, events and the runs: the last step in the transaction. A second call does nothing."""
        if self._saved:
            return
        self._saved = True
        batch = self._batch
        for pending in self._pending.values():
            batch.insert(OutboxEvent, self._event_rows(pending))
            if pending.events or pending.status is not None:
                batch.runs.append(_change_of(pending))
        if not batch.write(self.ports.using):
            names = ", ".join(f"{change.run_id} ({' or '.join(change.leaving)})" for change in batch.runs)
            raise InvalidTransition(f"One of these runs is in another status than it may leave: {names}.")
        self.has_news = self.has_news or any(row["pending"] for row in batch.rows.get(OutboxEvent, ()))
        if self._messages or self.has_news or self._announced:
            transaction.on_commit(self._push, using=self.ports.using, robust=True)

    def _event_rows(self, pending: _Pending) -> list[Row]:
        run = pending.run
        return [
            self.event_row(run.pk, run.workflow, run.event_seq + number, event, generation=run.generation, at=self.now)
            for number, event in enumerate(pending.events, start=1)
        ]

    def event_row(
        self,
        run_id: uuid.UUID,
        workflow_id: str,
        sequence: int,
        event: Event,
        *,
        at: datetime | None,
        generation: int = 0,
    ) -> Row:
        """Return the row of an event with its number."""
        return {
            "run_id": run_id,
            "sequence": sequence,
            "generation": generation,
            "type": event.type,
            "payload": event.payload(),
            "causation_id": self.causation_id,
            "occurred_at": at,
            "pending": self.announce(run_id, workflow_id, event),
        }

    def announce(self, run_id: uuid.UUID, workflow_id: str, event: Event) -> bool:
        """Keep the event for those in this process who listen; return whether it is to be handed on to others."""
        if self._announcer is not None:
            self._announced.append((run_id, workflow_id, event.type, event.payload()))
        return self.ports.subscribers.want(event.type, workflow_id)

    def keep_announced(self, runs: Collection[uuid.UUID]) -> None:
        """Leave out what is about other runs: nothing of theirs was written."""
        self._announced = [one for one in self._announced if one[0] in runs]

    def _push(self) -> None:
        if self.has_news and not self.ports.subscribers.wake() and not self._messages:
            # Nobody here delivers; whoever hears the bell looks for that too.
            self.ring_queue(DEFAULT_QUEUE)
        if self._messages:
            self.ports.transport.push(self._messages)
        if self._announcer is not None:
            self._announcer.tell(self._announced)


def _change_of(pending: _Pending) -> RunChange:
    run = pending.run
    leaving = pending.leaving or (RunStatus(run.status),)
    return RunChange(run.pk, len(pending.events), pending.status, leaving, pending.columns)


def goes_at_once(ports: Ports) -> bool:
    """Whether what is done by one statement is a transaction by itself here, and the database's clock counts."""
    connection = connections[ports.using]
    if connection.vendor != "postgresql" or ports.is_frozen:
        return False
    return not connection.in_atomic_block and connection.get_autocommit()


def transact(
    ports: Ports,
    causation_id: uuid.UUID,
    step: Callable[[UnitOfWork], T],
    *,
    tries: int = TRIES,
    again: bool = False,
    plain: bool = False,
) -> T:
    """Run ``step`` in one transaction and return its result.

    A deadlock, a serialization failure or a lost connection repeats the whole step, up to 5 times: so a step must
    recognise what an earlier try of its own has committed. Inside a transaction of the caller nothing is repeated.

    Args:
        again: an earlier call with the same causation id may have been committed although its answer was lost.
        plain: the step writes by one statement, which is a transaction by itself where the database says so.

    Raises:
        DatabaseConflict: the caller's transaction, or 5 tries, lost against others.
        DatabaseUnavailable: the database cannot be reached.
    """
    joined = connections[ports.using].in_atomic_block
    plain = plain and not joined and connections[ports.using].vendor == "postgresql"
    # An earlier try may have been committed: not one that has lost against others, since it was rolled back as a whole.
    unsure, alone = again, False
    for number in range(1, tries + 1):
        try:
            alone = plain and connections[ports.using].get_autocommit()
            with nullcontext() if alone else transaction.atomic(using=ports.using):
                work = UnitOfWork(ports, causation_id, repeated=unsure)
                result = step(work)
                work.save()
            return result
        except (Error, DatabaseConflict) as error:
            conflict = is_conflict(error)
            if not conflict and not is_lost(error):
                raise
            if joined or number == tries:
                if isinstance(error, DatabaseConflict):
                    raise
                kind = DatabaseConflict if conflict else DatabaseUnavailable
                raise kind(f"{type(error).__name__}: {error}".strip()) from error
            logger.debug("transaction repeated try=%s error=%s", number, error)
            unsure = unsure or alone or not conflict
            if not conflict:
                connections[ports.using].close()
            ports.clock.pause(0.02 * 2**number * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise AssertionError("unreachable")
