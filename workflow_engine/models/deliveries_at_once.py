"""Handing events on, and claiming what is to be delivered, by one statement each, on PostgreSQL.

Each is a transaction by itself. Elsewhere, and inside a transaction, ``EventCursorQuerySet`` does the same in steps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connections

from .cursors import EventCursor
from .rows import few

_EVENT, _CURSOR, _RUN = "workflow_engine_outboxevent", "workflow_engine_eventcursor", "workflow_engine_workflowrun"


class Wanted(NamedTuple):
    """What a subscriber hears of; None: of all."""

    name: str
    types: Collection[str] | None
    workflows: Collection[str] | None


class Event(NamedTuple):
    """An event as it is delivered: the columns of its row, and its run's workflow."""

    run_id: Any
    sequence: int
    generation: int
    type: str
    payload: dict[str, Any]
    causation_id: Any
    occurred_at: Any
    workflow: str


# The events are locked first: whoever hands on at the same time waits, so nobody's first event of a run is left out.
# Limits stand in the text, and conditions that always hold, so that the planner expects few rows and looks them up by
# an index also where it plans once for all parameters, while the table is young (see ``rows.few``).
_HAND_ON = f"""
WITH fresh AS MATERIALIZED (
    SELECT id, run_id, sequence, type, {{workflow}} AS workflow FROM {_EVENT} AS e
    WHERE pending AND id BETWEEN 1 AND {2**63 - 2} ORDER BY id LIMIT {{most}} FOR NO KEY UPDATE),
cleared AS (UPDATE {_EVENT} AS e SET pending = FALSE FROM fresh
    WHERE e.id = fresh.id AND fresh.id + 0 = fresh.id),
wanted AS (SELECT * FROM jsonb_to_recordset(%s::jsonb) AS v(name text, types jsonb, workflows jsonb)),
news AS (
    SELECT f.run_id, w.name, MIN(f.sequence) AS first, MAX(f.sequence) AS last FROM fresh AS f JOIN wanted AS w
    ON (w.types IS NULL OR w.types ? f.type) AND (w.workflows IS NULL OR w.workflows ? f.workflow)
    GROUP BY f.run_id, w.name ORDER BY f.run_id, w.name),
told AS (
    INSERT INTO {_CURSOR} (run_id, subscriber, last_sequence, target, due_at, token, tries, error)
    SELECT run_id, name, first - 1, last, STATEMENT_TIMESTAMP(), 0, 0, '' FROM news
    ON CONFLICT (run_id, subscriber) DO UPDATE SET target = EXCLUDED.target RETURNING subscriber)
SELECT (SELECT COUNT(*) FROM fresh), ARRAY(SELECT DISTINCT subscriber FROM told)
"""  # noqa: S608 - names of tables only
# Asked only if somebody cares: it is a look-up for each event.
_WORKFLOW = f"(SELECT r.workflow FROM {_RUN} AS r WHERE r.id = e.run_id)"  # noqa: S608 - names of tables only
# The row that is locked may be newer than what the statement sees of the events: how far a run is heard of is what both
# know, and the rest is left for the next claim.
_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id, due_at FROM {_CURSOR} WHERE subscriber = %s AND due_at <= STATEMENT_TIMESTAMP()
    ORDER BY due_at, id LIMIT {{most}} FOR NO KEY UPDATE SKIP LOCKED),
claimed AS (
    UPDATE {_CURSOR} AS c
    SET token = c.token + 1, due_at = STATEMENT_TIMESTAMP() + %s * INTERVAL '1 second' FROM due WHERE c.id = due.id
    RETURNING c.id, c.run_id, c.last_sequence, c.target, c.token, c.tries, c.error, due.due_at AS was_due)
SELECT c.id, c.run_id, c.last_sequence, GREATEST(c.last_sequence, LEAST(c.target, seen.target)),
    c.token, c.tries, c.error, e.sequence, e.generation, e.type, e.payload, e.causation_id, e.occurred_at,
    (SELECT r.workflow FROM {_RUN} AS r WHERE r.id = c.run_id)
FROM claimed AS c JOIN {_CURSOR} AS seen ON seen.id = c.id LEFT JOIN LATERAL (
    SELECT * FROM {_EVENT} AS o WHERE o.run_id = c.run_id AND o.sequence > c.last_sequence
        AND o.sequence <= LEAST(c.target, seen.target, c.last_sequence + {{window}})
        AND (%s::text[] IS NULL OR o.type = ANY(%s))
    ORDER BY o.sequence LIMIT {{window}}) AS e ON TRUE
ORDER BY c.was_due, c.id, e.sequence
"""  # noqa: S608 - names of tables only
# In the order in which news are added, so that the two do not wait for each other.
_END = f"""
WITH ended AS MATERIALIZED (
    SELECT c.id FROM {_CURSOR} AS c JOIN jsonb_to_recordset(%s::jsonb) AS v(id bigint, token bigint, last integer)
    ON c.id = v.id AND {few("token")} WHERE c.token = v.token AND c.target <= v.last
    ORDER BY c.run_id, c.subscriber FOR UPDATE OF c)
DELETE FROM {_CURSOR} AS c USING ended WHERE c.id = ended.id RETURNING c.id
"""  # noqa: S608 - names of tables only


def hand_on_at_once(using: str, subscribers: Sequence[Wanted], most: int) -> tuple[int, frozenset[str]]:
    """Write down who is to hear of up to ``most`` new events; return how many those were, and for whom."""
    rows = [
        {
            "name": one.name,
            **({} if one.types is None else {"types": sorted(one.types)}),
            **({} if one.workflows is None else {"workflows": sorted(one.workflows)}),
        }
        for one in subscribers
    ]
    workflow = "''" if all(one.workflows is None for one in subscribers) else _WORKFLOW
    with connections[using].cursor() as cursor:
        cursor.execute(_HAND_ON.format(most=int(most), workflow=workflow), [json.dumps(rows)])
        count, names = cursor.fetchone()
    return count, frozenset(names)


def end_at_once(using: str, cursors: Iterable[EventCursor]) -> set[int]:
    """Delete cursors that have come to their end and are still claimed; return the ids of those that were."""
    rows = [{"id": row.pk, "token": row.token, "last": row.last_sequence} for row in cursors]
    with connections[using].cursor() as cursor:
        cursor.execute(_END, [json.dumps(rows)])
        return {pk for (pk,) in cursor.fetchall()}


def claim_at_once(
    using: str, subscriber: str, most: int, *, lease: timedelta, window: int, types: Collection[str] | None
) -> list[tuple[EventCursor, list[Event]]]:
    """Take cursors that are due for as long as ``lease``, each with its next events of these types.

    Args:
        window: how many numbers of a run are looked at.
    """
    known = None if types is None else sorted(types)
    found: dict[int, tuple[EventCursor, list[Event]]] = {}
    with connections[using].cursor() as cursor:
        cursor.execute(
            _CLAIM.format(most=int(most), window=int(window)), [subscriber, lease.total_seconds(), known, known]
        )
        for pk, run_id, last, target, token, tries, error, sequence, *event, workflow in cursor.fetchall():
            if pk not in found:
                row = EventCursor.from_db(
                    using,
                    ("id", "run_id", "subscriber", "last_sequence", "target", "token", "tries", "error"),
                    (pk, run_id, subscriber, last, target, token, tries, error),
                )
                found[pk] = (row, [])
            if sequence is not None:
                generation, event_type, payload, causation_id, occurred_at = event
                content = json.loads(payload) if isinstance(payload, str) else payload
                found[pk][1].append(
                    Event(run_id, sequence, generation, event_type, content, causation_id, occurred_at, workflow)
                )
    return list(found.values())
