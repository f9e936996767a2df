"""From events to deliveries: who is to hear of what, written down for each subscriber by itself."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, cast

from django.db.models import QuerySet

from workflow_engine.models import EventCursor, OutboxEvent, WorkflowRun
from workflow_engine.models.base import lock_rows
from workflow_engine.models.compiled import rows_of
from workflow_engine.models.cursors import News
from workflow_engine.models.deliveries_at_once import Wanted, hand_on_at_once

from . import points
from .ports import Ports
from .subscribers import Subscriber
from .unit_of_work import UnitOfWork, goes_at_once, transact

# An event that waits to be handed on: id, run, number, type.
Waiting = tuple[int, uuid.UUID, int, str]


def hand_on(ports: Ports, causation_id: uuid.UUID, most: int) -> tuple[int, frozenset[str]]:
    """Write down who is to hear of up to ``most`` new events; return how many those were, and for whom.

    Several callers wait for each other for a moment: so a subscriber's first event of a run is never left out.
    """
    known = ports.subscribers.all()
    if not known and not ports.subscribers.may_go:
        return 0, frozenset()
    return transact(ports, causation_id, lambda work: _hand_on(work, known, most), plain=goes_at_once(ports))


def _hand_on(work: UnitOfWork, known: Sequence[Subscriber], most: int) -> tuple[int, frozenset[str]]:
    using = work.ports.using
    if goes_at_once(work.ports):
        points.hit(points.HAND_ON_IN_TX)
        return hand_on_at_once(using, [Wanted(one.name, one.types, one.workflows) for one in known], most)

    def build() -> QuerySet[Any]:
        rows = lock_rows(OutboxEvent.objects.using(using).to_hand_on())
        return rows.values_list("id", "run_id", "sequence", "type")[:most]

    waiting = [cast(Waiting, tuple(row)) for row in rows_of(using, ("to hand on", most), build)]
    if not waiting:
        return 0, frozenset()
    workflows: dict[uuid.UUID, str] = {}
    if any(one.workflows is not None for one in known):
        runs = WorkflowRun.objects.using(using).filter(pk__in={run_id for _, run_id, _, _ in waiting})
        workflows = dict(runs.values_list("pk", "workflow"))
    news = [new for one in known for new in _news_for(one, waiting, workflows)]
    EventCursor.objects.using(using).add(news, work.ports.clock.db_now())
    OutboxEvent.objects.using(using).filter(pk__in=[pk for pk, *_ in waiting]).update(pending=False)
    points.hit(points.HAND_ON_IN_TX)
    return len(waiting), frozenset(new.subscriber for new in news)


def _news_for(subscriber: Subscriber, waiting: Sequence[Waiting], workflows: dict[uuid.UUID, str]) -> list[News]:
    numbers: dict[uuid.UUID, list[int]] = {}
    for _, run_id, sequence, event_type in waiting:
        if subscriber.wants(event_type, workflows.get(run_id, "")):
            numbers.setdefault(run_id, []).append(sequence)
    return [News(run_id, subscriber.name, min(found), max(found)) for run_id, found in numbers.items()]
