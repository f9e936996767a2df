"""``outbox.flush``: events are delivered to those who want to hear of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.errors import SubscriberNotFound
from workflow_engine.kernel.delivering import Delivered, deliver
from workflow_engine.kernel.handing_on import hand_on
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.subscribers import Subscriber
from workflow_engine.models import DeadLetter, EventCursor

from .base import Command, handles

# Events that are handed on in one transaction.
HANDED_ON_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class FlushOutboxResult:
    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    # Dead letters that have now been delivered.
    replayed: int = 0
    # New events of which it was written down who is to hear of them.
    handed_on: int = 0
    # Those who are to hear of them.
    news_for: frozenset[str] = frozenset()
    # Not all that was due was tried.
    more: bool = False
    # Seconds for which a subscriber takes nothing more.
    rest: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FlushOutbox(Command[FlushOutboxResult]):
    """Deliver what is due: each run's events in order, at least once, to every subscriber by itself.

    Any number of callers at a time: a run's events go to a subscriber from one of them only. Must not be called inside
    a transaction, since subscribers are called.

    Args:
        subscriber: only to this one; ``""``: to none, new events are only handed on; None: to all, one after the other.
        max: events that are delivered to each subscriber.

    Raises:
        SubscriberNotFound: this process knows no such subscriber.
    """

    type = "outbox.flush"
    subscriber: str | None = None
    max: int = 100


@handles(FlushOutbox)
def flush_outbox(command: FlushOutbox, ports: Ports, causation_id: uuid.UUID) -> FlushOutboxResult:
    known = ports.subscribers.all()
    if command.subscriber:
        subscriber = ports.subscribers.get(command.subscriber)
        if subscriber is None:
            raise SubscriberNotFound(command.subscriber, [one.name for one in known])
        known = (subscriber,)
    # Whoever delivers to one leaves it to others to hand on, so that subscribers do not wait for each other.
    handed_on, news_for = 0, frozenset[str]()
    if not command.subscriber:
        handed_on, news_for = hand_on(ports, causation_id, HANDED_ON_AT_ONCE)
    made = Delivered(more=handed_on == HANDED_ON_AT_ONCE)
    if command.subscriber is None:
        known = _with_something_due(ports, known)
    for one in known if command.subscriber != "" else ():
        made.add(deliver(ports, causation_id, one, command.max))
    return FlushOutboxResult(
        delivered=made.delivered,
        failed=made.failed,
        dead_lettered=made.dead_lettered,
        replayed=made.replayed,
        handed_on=handed_on,
        news_for=news_for,
        more=made.more,
        rest=made.rest,
    )


def _with_something_due(ports: Ports, known: tuple[Subscriber, ...]) -> tuple[Subscriber, ...]:
    """Leave out those who share threads and have nothing to hear of: there may be many, and each costs statements."""
    if not any(one.shares_threads for one in known):
        return known
    using, now = ports.using, ports.clock.db_now()
    cursors, letters = EventCursor.objects.using(using).due(now), DeadLetter.objects.using(using).due(now)
    due = {*cursors.order_by().values_list("subscriber", flat=True).distinct()}
    due |= {*letters.order_by().values_list("subscriber", flat=True).distinct()}
    return tuple(one for one in known if not one.shares_threads or one.name in due)
