"""``outbox.replay``: dead letters are to be delivered once more."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction

from workflow_engine.definitions.stages import DEFAULT_QUEUE
from workflow_engine.kernel.ports import Message, Ports
from workflow_engine.kernel.unit_of_work import transact
from workflow_engine.models import DeadLetter
from workflow_engine.models.base import lock_rows

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayDeadLettersResult:
    # Letters that are to be delivered again; one that fails again is a dead letter as before.
    replayed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayDeadLetters(Command[ReplayDeadLettersResult]):
    """Have dead letters delivered again, the oldest first; they may come after later events of their runs, and say so.

    Args:
        run_id, event_type, subscriber: only letters of these; None: of any.
        ids: only these letters.
        max: not more than so many.
    """

    type = "outbox.replay"
    run_id: uuid.UUID | None = None
    event_type: str | None = None
    subscriber: str | None = None
    ids: tuple[int, ...] | None = None
    max: int = 100


@handles(ReplayDeadLetters)
def replay_dead_letters(command: ReplayDeadLetters, ports: Ports, causation_id: uuid.UUID) -> ReplayDeadLettersResult:
    meant = {"run": command.run_id, "type": command.event_type, "subscriber": command.subscriber}
    rows = DeadLetter.objects.using(ports.using).filter(
        replay_at=None, **{name: value for name, value in meant.items() if value is not None}
    )
    if command.ids is not None:
        rows = rows.filter(pk__in=command.ids)

    def step(_: object) -> int:
        letters = lock_rows(rows.order_by("died_at", "id"), skip_locked=True).values_list("pk", flat=True)
        found = list(letters[: command.max])
        if found:
            DeadLetter.objects.using(ports.using).filter(pk__in=found).update(replay_at=ports.clock.db_now())
            transaction.on_commit(lambda: _wake(ports), using=ports.using, robust=True)
        return len(found)

    return ReplayDeadLettersResult(replayed=transact(ports, causation_id, step))


def _wake(ports: Ports) -> None:
    if not ports.subscribers.wake():
        ports.transport.push([Message(DEFAULT_QUEUE)])
