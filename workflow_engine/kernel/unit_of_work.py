"""One step, one transaction: the state change and its events commit together; doorbells ring after it."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import Error, connections, transaction

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, InvalidTransition
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.statuses import RunStatus

from .conflicts import is_conflict, is_lost
from .events import Event
from .ports import Message, Ports

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

    def lock_run(self, run_id: uuid.UUID, *, skip_locked: bool = False) -> WorkflowRun | None:
        """Lock the run until the transaction ends; None if there is none (or, skipping, somebody holds it)."""
        run = WorkflowRun.objects.using(self.ports.using).locked(run_id, skip_locked=skip_locked)
        if run is not None:
            self._pending[run.pk] = _Pending(run)
        return run

    def hold(self, run: WorkflowRun) -> None:
        """Take in a run that this transaction has locked by a query of its own."""
        self._pending[run.pk] = _Pending(run)

    def emit(self, run: WorkflowRun, event: Event) -> None:
        """Record an event; it gets the run's next sequence number when the work is saved."""
        self._pending[run.pk].events.append(event)

    def change_run(
        self, run: WorkflowRun, status: RunStatus, *, leaving: tuple[RunStatus, ...], **columns: Any
    ) -> None:
        """Change the run's status when the work is saved, in the statement that allocates the event numbers."""
        pending = self._pending[run.pk]
        pending.status, pending.leaving, pending.columns = status, leaving, columns

    def is_ending(self, run: WorkflowRun) -> bool:
        return self._pending[run.pk].status is not None

    def ring(self, stage_run: StageRun) -> None:
        """Wake a worker for this stage after the commit."""
        self._messages.append(Message(stage_run.queue, stage_run.pk))

    def ring_queue(self, queue: str) -> None:
        self._messages.append(Message(queue))

    def save(self) -> None:
        """Write the events and the runs; called once, as the last step in the transaction."""
        rows: list[OutboxEvent] = []
        for pending in self._pending.values():
            rows += self._event_rows(pending)
        if rows:
            OutboxEvent.objects.using(self.ports.using).bulk_create(rows)
        for pending in self._pending.values():
            self._save_run(pending)
        if self._messages:
            transaction.on_commit(self._push, using=self.ports.using, robust=True)

    def _event_rows(self, pending: _Pending) -> list[OutboxEvent]:
        run = pending.run
        return [
            OutboxEvent(
                run_id=run.pk,
                sequence=run.event_seq + number,
                generation=run.generation,
                type=event.type,
                payload=event.payload(),
                causation_id=self.causation_id,
                occurred_at=self.now,
            )
            for number, event in enumerate(pending.events, start=1)
        ]

    def _save_run(self, pending: _Pending) -> None:
        run, count = pending.run, len(pending.events)
        if pending.status is not None:
            done = run.change(pending.status, leaving=pending.leaving, events=count, **pending.columns)
        else:
            done = run.count_events(count) if count else True
        if not done:
            raise InvalidTransition(f"Run {run.pk} is no longer {' or '.join(pending.leaving) or 'there'}.")

    def _push(self) -> None:
        self.ports.transport.push(self._messages)


def transact(ports: Ports, causation_id: uuid.UUID, step: Callable[[UnitOfWork], T]) -> T:
    """Run ``step`` in one transaction and return its result.

    A deadlock, a serialization failure or a lost connection repeats the whole step, up to 5 times: so a step must
    recognise what an earlier try of its own has committed. Inside a transaction of the caller nothing is repeated.

    Raises:
        DatabaseConflict: the caller's transaction, or 5 tries, lost against others.
        DatabaseUnavailable: the database cannot be reached.
    """
    joined = connections[ports.using].in_atomic_block
    for number in range(1, TRIES + 1):
        try:
            with transaction.atomic(using=ports.using):
                work = UnitOfWork(ports, causation_id, repeated=number > 1)
                result = step(work)
                work.save()
            return result
        except (Error, DatabaseConflict) as error:
            conflict = is_conflict(error)
            if not conflict and not is_lost(error):
                raise
            if joined or number == TRIES:
                if isinstance(error, DatabaseConflict):
                    raise
                kind = DatabaseConflict if conflict else DatabaseUnavailable
                raise kind(f"{type(error).__name__}: {error}".strip()) from error
            logger.debug("transaction repeated try=%s error=%s", number, error)
            if not conflict:
                connections[ports.using].close()
            ports.clock.pause(0.02 * 2**number * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise AssertionError("unreachable")
