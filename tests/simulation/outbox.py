"""Mutants of delivering, of limits and of claiming checks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import F

from workflow_engine.kernel import giving_places, handing_on
from workflow_engine.models import EventCursor
from workflow_engine.models.cursors import EventCursorQuerySet
from workflow_engine.models.suspensions import SuspendedRows

from .breaking import attribute, mutant


@mutant("how far a delivery has come is written without a look at the claim")
def no_token_of_the_cursor() -> Iterator[None]:
    original = EventCursorQuerySet.settle

    def settle(self: Any, cursors: Any, *, now: Any) -> Any:
        tokens = dict(EventCursor.objects.using(self.db).values_list("pk", "token"))
        for row in cursors:
            row.token = tokens.get(row.pk, row.token)
        return original(self, cursors, now=now)

    with attribute(EventCursorQuerySet, "settle", settle):
        yield


@mutant("two flushers deliver the same events (P9)")
def deliveries_are_not_claimed() -> Iterator[None]:
    def claim(self: Any, subscriber: str, most: int, *, now: Any, lease: timedelta) -> Any:
        return list(self.due(now, subscriber)[:most])

    with attribute(EventCursorQuerySet, "claim", claim):
        yield


@mutant("events count as delivered as soon as they are claimed")
def delivered_when_claimed() -> Iterator[None]:
    original = EventCursorQuerySet.claim

    def claim(self: Any, subscriber: str, most: int, *, now: Any, lease: timedelta) -> Any:
        rows = original(self, subscriber, most, now=now, lease=lease)
        self.filter(pk__in=[row.pk for row in rows]).update(last_sequence=F("target"))
        return rows

    with attribute(EventCursorQuerySet, "claim", claim):
        yield


@mutant("events count as handed on before it is written down to whom")
def handed_on_too_soon() -> Iterator[None]:
    def hand_on(ports: Any, causation_id: Any, most: int) -> Any:
        from workflow_engine.models import OutboxEvent

        rows = list(OutboxEvent.objects.using(ports.using).to_hand_on().values_list("id", "run_id", "sequence", "type"))
        OutboxEvent.objects.using(ports.using).filter(pk__in=[row[0] for row in rows]).update(pending=False)
        news = [new for one in ports.subscribers.all() for new in handing_on._news_for(one, rows, {})]
        EventCursor.objects.using(ports.using).add(news, ports.clock.db_now())
        return len(rows), frozenset(new.subscriber for new in news)

    from workflow_engine.kernel.commands import flush_outbox

    with attribute(flush_outbox, "hand_on", hand_on):
        yield


@mutant("a failed event is left out")
def failed_events_are_skipped() -> Iterator[None]:
    from workflow_engine.kernel import delivering

    original = delivering._emit

    def emit(subscriber: Any, event: Any) -> None:
        original(subscriber, event)

    with attribute(delivering, "_emit", emit):
        yield


@mutant("limits count nothing")
def limits_are_ignored() -> Iterator[None]:
    with attribute(giving_places, "_leave_ended", lambda places: 0):
        yield


@mutant("a check that somebody makes is claimed again")
def checks_are_claimed_twice() -> Iterator[None]:
    original = SuspendedRows.checkable

    def checkable(self: Any, now: Any, queues: Any, workflows: Any, **given: Any) -> Any:
        rows = original(self, now, queues, workflows, **given)
        again = self.suspended().filter(wait_kind="poll", worker__isnull=False, run__workflow__in=list(workflows))
        return (rows.order_by() | again.filter(run__status="RUNNING", run__paused_at__isnull=True)).order_by("id")

    with attribute(SuspendedRows, "checkable", checkable):
        yield
