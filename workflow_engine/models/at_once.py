"""Finishing attempts by one statement that is a transaction by itself, on PostgreSQL.

For attempts that were alone in their group: what follows is known from the plan, so nothing has to be read in between.
The statement locks the runs that nobody holds (it never waits for one), completes the stages whose token still counts,
and inserts and updates only what belongs to those. Attempts that it left out are finished in another way.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache

from django.db import connections

from .rows import Row, as_json

# A stage's end: the attempt, the run, how many events, and whether the run ends with it.
_ENDED = (
    "run_id uuid, stage_run_id uuid, generation integer, stage_id text, attempt_number integer, held_token bigint, "
    "holder uuid, output jsonb, metrics jsonb, cost float8, tokens bigint, elapsed float8, events integer, "
    "ends boolean, limited boolean, leaving text"
)
_NEXT = (
    "run_id uuid, id uuid, stage text, group_number smallint, stage_number smallint, queue text, status text, "
    "attempt integer, token bigint, worker uuid, alone boolean, conditional boolean, config jsonb"
)
_NOTICES = """notices AS (
    INSERT INTO workflow_engine_runnotice (run_id, stage_run_id, sender, kind, due_at, tries)
    SELECT parent_run_id, parent_stage_run_id, run_id, 'child_ended', now, 0 FROM done
    WHERE ends AND parent_run_id IS NOT NULL),
"""
# A run that is counted by a limit leaves its place.
_PLACES = """places AS (
    INSERT INTO workflow_engine_runnotice (run_id, stage_run_id, sender, kind, due_at, tries)
    SELECT run_id, NULL, run_id, 'place', now, 0 FROM done WHERE ends AND limited),
"""
_EVENT = "run_id uuid, number integer, type text, payload jsonb, pending boolean"


def finish_at_once(
    using: str, ended: Sequence[Row], following: Sequence[Row], events: Sequence[Row], causation_id: uuid.UUID
) -> dict[uuid.UUID, bool]:
    """Complete stages and advance their runs; return the ids of the stage runs that were completed.

    True: its run has ended with it, and there is a notice of that: for whoever has started it, or its limit.

    Args:
        ended: one row per attempt, columns as in ``_ENDED``; of every run at most one. ``limited``: it ends its run,
            which a limit may count.
        following: the next groups' stages, of whose columns ``_NEXT`` are read; ``worker`` is set if they start in the
            caller's process.
        events: ``number`` counts from 1 per run; what ``run.completed`` says of the whole run is filled in.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(
            _statement(any(row["ends"] for row in ended), any(row["limited"] for row in ended)),
            [as_json(ended), as_json(following), str(causation_id), as_json(events)],
        )
        return {key: bool(tells) for key, tells in cursor.fetchall()}


@cache
def _statement(ends: bool, limited: bool) -> str:
    """Return the statement; ``ends``: a run may end by it, so whoever has started it is told."""
    run, stage = "workflow_engine_workflowrun", "workflow_engine_stagerun"
    attempt, event = "workflow_engine_stageattempt", "workflow_engine_outboxevent"
    return f"""
WITH ended AS MATERIALIZED (SELECT * FROM jsonb_to_recordset(%s::jsonb) AS v({_ENDED})),
locked AS MATERIALIZED (
    SELECT ended.*, r.event_seq, r.rank_at, r.priority, r.started_at AS began_at, CLOCK_TIMESTAMP() AS now,
        r.parent_run_id, r.parent_stage_run_id,
        r.total_cost + ended.cost AS total_cost, r.total_tokens + ended.tokens AS total_tokens
    FROM {run} AS r JOIN ended ON r.id = ended.run_id
    WHERE r.status = ended.leaving AND r.paused_at IS NULL AND r.generation = ended.generation
    FOR NO KEY UPDATE OF r SKIP LOCKED),
done AS (
    UPDATE {stage} AS s SET status = 'COMPLETED', worker = NULL, finished_at = l.now, error = NULL,
        output = l.output, metrics = l.metrics
    FROM locked AS l WHERE s.id = l.stage_run_id AND s.token = l.held_token AND s.status = l.leaving
    RETURNING s.id, l.*),
attempts AS (
    INSERT INTO {attempt} (run_id, stage_run_id, stage, generation, attempt, token, worker, outcome, started_at,
        finished_at, error_code, error_class, error_message, traceback)
    SELECT run_id, id, stage_id, generation, attempt_number, held_token, holder, 'completed',
        now - elapsed * INTERVAL '1 second', now, '', '', '', '' FROM done),
following AS (
    INSERT INTO {stage} (id, run_id, stage, group_number, stage_number, map_index, generation, queue, priority, status,
        due_at, rank_at, attempt, token, worker, alone, suspect, failures, crashes, conditional, started_at, config)
    SELECT v.id, v.run_id, v.stage, group_number, stage_number, -1, done.generation, queue, priority, v.status,
        now, rank_at, attempt, token, worker, alone, FALSE, 0, 0, conditional,
        CASE WHEN worker IS NOT NULL THEN now END, config
    FROM jsonb_to_recordset(%s::jsonb) AS v({_NEXT}) JOIN done ON done.run_id = v.run_id),
events AS (
    INSERT INTO {event} (run_id, sequence, generation, type, payload, causation_id, occurred_at, pending)
    SELECT v.run_id, event_seq + number, done.generation, type,
        CASE WHEN type = 'run.completed' THEN payload || jsonb_strip_nulls(jsonb_build_object(
            'duration_ms', ROUND(EXTRACT(EPOCH FROM now - began_at) * 1000)::bigint,
            'total_cost', NULLIF(total_cost, 0), 'total_tokens', NULLIF(total_tokens, 0))) ELSE payload END,
        %s::uuid, now, pending
    FROM jsonb_to_recordset(%s::jsonb) AS v({_EVENT}) JOIN done ON done.run_id = v.run_id
    ORDER BY v.run_id, number),
{_NOTICES if ends else ""}{_PLACES if limited else ""}runs AS (
    UPDATE {run} AS r SET event_seq = r.event_seq + done.events,
        total_cost = done.total_cost, total_tokens = done.total_tokens,
        status = CASE WHEN done.ends THEN 'COMPLETED' ELSE r.status END,
        finished_at = CASE WHEN done.ends THEN done.now ELSE r.finished_at END
    FROM done WHERE r.id = done.run_id)
SELECT id, ends AND (limited OR parent_run_id IS NOT NULL) FROM done
"""  # noqa: S608 - names of tables and types only
