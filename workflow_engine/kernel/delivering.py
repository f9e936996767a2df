"""Deliveries to one subscriber: claimed, made outside of any transaction, and written down under the claim."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.db.models import F, Q, QuerySet

from workflow_engine.definitions.plugins import RunEvent
from workflow_engine.errors import DeliveryRefused
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent
from workflow_engine.models.deliveries_at_once import claim_at_once, end_at_once
from workflow_engine.models.next_events import next_events

from . import points
from .payloads import scrub
from .ports import Ports
from .subscribers import Subscriber
from .unit_of_work import UnitOfWork, goes_at_once, transact

logger = logging.getLogger(__name__)
# Runs that are delivered from in one go, and how far in each: so that none waits for a long one.
RUNS, WINDOW = 50, 200
# Once it takes longer than this, what was delivered so far is written down.
SETTLE_SECONDS = 0.5
# What fails is tried again after this, ever more seldom up to the last.
AGAIN_SECONDS, LONGEST_SECONDS = 1.0, 300.0
# Characters of an error that are kept.
MOST_TEXT = 2000
# What a claim lasts beyond the calls that it is for.
SPARE_SECONDS = 5.0


@dataclass(slots=True)
class Delivered:
    """What became of deliveries. ``more``: not all that is due was tried. ``rest``: nothing more for so long."""

    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    replayed: int = 0
    more: bool = False
    rest: float = 0.0

    def add(self, other: Delivered) -> None:
        self.delivered += other.delivered
        self.failed += other.failed
        self.dead_lettered += other.dead_lettered
        self.replayed += other.replayed
        self.more = self.more or other.more
        self.rest = max(self.rest, other.rest)


@dataclass(slots=True)
class _Round:
    """One claim of a few runs, and what has become of it so far."""

    subscriber: Subscriber
    until: float
    most: int
    made: Delivered = field(default_factory=Delivered)
    claimed: dict[int, EventCursor] = field(default_factory=dict)
    # What is not written down yet.
    ended: list[EventCursor] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    settled_at: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        return self.made.delivered + self.made.replayed >= self.most or time.monotonic() > self.until


def deliver(ports: Ports, causation_id: uuid.UUID, subscriber: Subscriber, most: int) -> Delivered:
    """Deliver up to ``most`` events to a subscriber: each run's in order, and what fails only holds up its own run."""
    seconds = 2 * subscriber.timeout + SPARE_SECONDS
    lease = timedelta(seconds=seconds)
    # Another call may begin as long as the claim outlasts it.
    turn = _Round(subscriber, time.monotonic() + seconds - subscriber.timeout - SPARE_SECONDS / 2, most)
    cursors, read = _claim(ports, subscriber, lease)
    turn.claimed = {cursor.pk: cursor for cursor in cursors}
    try:
        events = _read(ports, subscriber, cursors) if read is None else read
        points.hit(points.FLUSH_CLAIMED)
        for cursor in cursors:
            _deliver_run(ports, turn, cursor, events[cursor.run_id])
            turn.ended.append(cursor)
            if time.monotonic() - turn.settled_at > SETTLE_SECONDS:
                _settle(ports, causation_id, turn)
        _settle(ports, causation_id, turn)
    except Exception:
        _give_back(ports, causation_id, turn)
        raise
    if turn.made.rest:
        return turn.made
    if len(cursors) < RUNS and not turn.is_over:
        _replay(ports, turn, lease)
    else:
        turn.made.more = True
    return turn.made


def _claim(
    ports: Ports, subscriber: Subscriber, lease: timedelta
) -> tuple[list[EventCursor], dict[uuid.UUID, list[RunEvent]] | None]:
    """Claim what is due; with its events, where one statement gives both."""
    if goes_at_once(ports):
        found = claim_at_once(ports.using, subscriber.name, RUNS, lease=lease, window=WINDOW, types=subscriber.types)
        return [cursor for cursor, _ in found], {
            cursor.run_id: [run_event(event) for event in events] for cursor, events in found
        }
    now = ports.clock.db_now()
    return EventCursor.objects.using(ports.using).claim(subscriber.name, RUNS, now=now, lease=lease), None


def _read(ports: Ports, subscriber: Subscriber, cursors: Sequence[EventCursor]) -> dict[uuid.UUID, list[RunEvent]]:
    events: dict[uuid.UUID, list[RunEvent]] = defaultdict(list)
    for row in next_events(ports.using, cursors, window=WINDOW, types=subscriber.types):
        events[row.run_id].append(run_event(row))
    return events


def _rows(ports: Ports, wanted: Q) -> QuerySet[OutboxEvent]:
    return OutboxEvent.objects.using(ports.using).filter(wanted).annotate(workflow=F("run__workflow"))


def _end_of_window(cursor: EventCursor) -> int:
    return min(cursor.target, cursor.last_sequence + WINDOW)


def run_event(row: Any, *, is_replay: bool = False) -> RunEvent:
    """Return a row, which knows its run's workflow, as subscribers get it."""
    return RunEvent(
        id=f"{row.run_id}:{row.sequence}",
        run_id=row.run_id,
        workflow_id=row.workflow,
        sequence=row.sequence,
        generation=row.generation,
        type=row.type,
        payload=row.payload,
        causation_id=row.causation_id,
        occurred_at=row.occurred_at,
        is_replay=is_replay,
    )


def _deliver_run(ports: Ports, turn: _Round, cursor: EventCursor, events: Sequence[RunEvent]) -> None:
    """Deliver a run's events, up to the first that fails."""
    end = _end_of_window(cursor)
    most = turn.subscriber.max_tries or ports.limits.max_event_tries
    for event in events:
        if turn.made.rest:
            cursor.delay = timedelta(seconds=turn.made.rest)
            return
        if turn.is_over:
            turn.made.more = True
            return
        problem = _emit(turn.subscriber, event if not cursor.tries else replace(event, attempt=cursor.tries + 1))
        if problem is None:
            turn.made.delivered += 1
        else:
            turn.made.rest = problem.rest
            if not problem.counts:
                cursor.delay = timedelta(seconds=problem.rest)
                return
            cursor.tries, cursor.error = cursor.tries + 1, str(problem)
            if cursor.tries < most:
                turn.made.failed += 1
                cursor.delay = max(_delay(cursor.tries), timedelta(seconds=problem.after))
                return
            turn.dead.append(_dead(cursor, event, turn.subscriber, str(problem)))
        cursor.last_sequence, cursor.tries, cursor.error = event.sequence, 0, ""
    cursor.last_sequence = end


def _emit(subscriber: Subscriber, event: RunEvent) -> DeliveryRefused | None:
    """Deliver an event; return what went wrong."""
    try:
        subscriber.sink.emit(event)
    except Exception as error:
        problem = DeliveryRefused(_text_of(error))
        if isinstance(error, DeliveryRefused):
            problem.after, problem.rest, problem.counts = error.after, error.rest, error.counts
        logger.log(
            logging.WARNING if problem.counts else logging.DEBUG,
            "event not delivered subscriber=%s event=%s type=%s error=%s",
            subscriber.name,
            event.id,
            event.type,
            problem,
        )
        return problem
    points.hit(points.FLUSH_EMITTED)
    return None


def _text_of(error: Exception) -> str:
    try:
        text = str(error) if isinstance(error, DeliveryRefused) else f"{type(error).__name__}: {error}"
        return str(scrub(text))[:MOST_TEXT]
    except Exception:  # an error that cannot even be printed
        return type(error).__name__


def _delay(tries: int) -> timedelta:
    seconds = min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** min(tries - 1, 20))
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret


def _dead(cursor: EventCursor, event: RunEvent, subscriber: Subscriber, problem: str) -> DeadLetter:
    return DeadLetter(
        run_id=event.run_id,
        sequence=event.sequence,
        type=event.type,
        subscriber=subscriber.name,
        tries=cursor.tries,
        error=problem,
    )


def _settle(ports: Ports, causation_id: uuid.UUID, turn: _Round) -> None:
    """Write down how far it has come; what is void (its claim was over) counts for nothing."""
    ended, dead = turn.ended, turn.dead
    turn.settled_at = time.monotonic()
    if ended and not dead and goes_at_once(ports):
        over = [cursor for cursor in ended if cursor.delay is None]
        points.hit(points.FLUSH_IN_TX)
        gone = transact(ports, causation_id, lambda work: end_at_once(ports.using, over), plain=True)
        for cursor in ended:
            if cursor.pk in gone:
                turn.claimed.pop(cursor.pk, None)
        turn.ended = ended = [cursor for cursor in ended if cursor.pk not in gone]
    if ended:
        letters, is_more = transact(ports, causation_id, lambda work: _write(work, ended, dead), again=True)
        for cursor in ended:
            turn.claimed.pop(cursor.pk, None)
        turn.ended, turn.dead = [], []
        turn.made.dead_lettered += letters
        # News that came meanwhile woke somebody who found the run claimed.
        turn.made.more = turn.made.more or is_more


def _give_back(ports: Ports, causation_id: uuid.UUID, turn: _Round) -> None:
    """Write down what can be after an error: otherwise these runs would wait until the claim is over."""
    cursors, dead = list(turn.claimed.values()), turn.dead
    try:
        transact(ports, causation_id, lambda work: _write(work, cursors, dead), again=True)
    except Exception as error:
        logger.debug("deliveries cannot be given back subscriber=%s error=%s", turn.subscriber.name, error)


def _write(work: UnitOfWork, ended: Sequence[EventCursor], dead: Sequence[DeadLetter]) -> tuple[int, bool]:
    using, now = work.ports.using, work.ports.clock.db_now()
    kept, is_more = EventCursor.objects.using(using).settle(ended, now=now)
    runs = {cursor.run_id for cursor in ended if cursor.pk in kept}
    letters = [letter for letter in dead if letter.run_id in runs]
    for letter in letters:
        letter.died_at = now
    DeadLetter.objects.using(using).bulk_create(letters, ignore_conflicts=True)
    points.hit(points.FLUSH_IN_TX)
    return len(letters), is_more


def _replay(ports: Ports, turn: _Round, lease: timedelta) -> None:
    """Deliver dead letters again, whatever has become of their runs since."""
    now, using = ports.clock.db_now(), ports.using
    waiting = DeadLetter.objects.using(using)
    # They are seldom, and a claim is a transaction.
    if not waiting.is_any_due(now, turn.subscriber.name):
        return
    letters = waiting.claim(turn.subscriber.name, RUNS, now=now, lease=lease)
    if not letters:
        # Somebody else was quicker.
        return
    wanted = Q()
    for letter in letters:
        wanted |= Q(run=letter.run_id, sequence=letter.sequence)
    rows = {(row.run_id, row.sequence): row for row in _rows(ports, wanted)}
    for letter in letters:
        mine = DeadLetter.objects.using(using).filter(pk=letter.pk, token=letter.token)
        if turn.is_over:
            mine.update(replay_at=ports.clock.db_now())
            turn.made.more = True
            continue
        row = rows.get((letter.run_id, letter.sequence))
        if row is None:
            mine.update(replay_at=None, error="The event is not kept any more.")
            turn.made.failed += 1
            continue
        event = replace(run_event(row, is_replay=True), attempt=letter.tries + 1)
        problem = _emit(turn.subscriber, event)
        if problem is None:
            mine.delete()
            turn.made.replayed += 1
        elif not problem.counts:
            mine.update(replay_at=ports.clock.db_now() + timedelta(seconds=problem.rest))
        else:
            mine.update(replay_at=None, error=str(problem), tries=letter.tries + 1)
            turn.made.failed += 1
    turn.made.more = turn.made.more or len(letters) == RUNS
