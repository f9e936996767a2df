"""What is to be delivered next of the runs that somebody has claimed, by a statement that is compiled once."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

from django.db.models import F, Q, QuerySet

from .compiled import FIRST_PLACE, padded, rows_of
from .cursors import EventCursor
from .deliveries_at_once import Event
from .outbox import OutboxEvent


def next_events(
    using: str, cursors: Sequence[EventCursor], *, window: int, types: Collection[str] | None
) -> list[Event]:
    """Return the events of these types that follow what was heard of, ordered by run and sequence.

    Args:
        window: how many numbers of a run are looked at.
    """
    if not cursors:
        return []
    wanted = padded(cursors)
    runs = [uuid.UUID(int=FIRST_PLACE + number) for number in range(len(wanted))]
    after = range(FIRST_PLACE, FIRST_PLACE + len(wanted))
    upto = range(after.stop, after.stop + len(wanted))
    known = None if types is None else sorted(types)

    def build() -> QuerySet[Any]:
        places = Q()
        for run, first, last in zip(runs, after, upto, strict=True):
            places |= Q(run=run, sequence__gt=first, sequence__lte=last)
        rows = OutboxEvent.objects.using(using).filter(places).order_by("run_id", "sequence")
        if known is not None:
            rows = rows.filter(type__in=known)
        return rows.annotate(workflow=F("run__workflow")).values_list(*Event._fields)

    meant: dict[Any, Any] = {}
    for row, run, first, last in zip(wanted, runs, after, upto, strict=True):
        meant |= {run: row.run_id, first: row.last_sequence, last: min(row.target, row.last_sequence + window)}
    key = ("next events", len(wanted), None if known is None else tuple(known))
    return [Event(*row) for row in rows_of(using, key, build, places=meant)]
