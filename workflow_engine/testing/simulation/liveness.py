"""Whether everything has come to its end, and what is waited for if not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .clients import Operation, Wish
from .world import World

# Something is left to be done: runs, deliveries, events that were not handed on, notices.
LEFT = """SELECT (SELECT count(*) FROM workflow_engine_workflowrun WHERE finished_at IS NULL)
 + (SELECT count(*) FROM workflow_engine_eventcursor) + (SELECT count(*) FROM workflow_engine_runnotice)
 + (SELECT count(*) FROM workflow_engine_outboxevent WHERE pending)"""
OPEN_RUNS = """SELECT id, workflow, status, due_at, paused_at FROM workflow_engine_workflowrun
 WHERE finished_at IS NULL ORDER BY id"""
OPEN_STAGES = """SELECT stage, map_index, status, due_at, worker, wait_kind, wake_at FROM workflow_engine_stagerun
 WHERE run_id = ? AND superseded_at IS NULL AND finished_at IS NULL ORDER BY id"""


def is_quiet(world: World, wishes: Sequence[Wish], operations: Sequence[Operation]) -> bool:
    if any(len(wish.told) < 2 for wish in wishes) or not all(one.done for one in operations):
        return False
    return bool(world.database.rows(LEFT)[0][0] == 0)


def what_is_left(world: World, wishes: Sequence[Wish]) -> Iterator[str]:
    """Say of everything that has not come to its end what it waits for."""
    rows = world.database.rows
    for wish in wishes:
        if len(wish.told) < 2:
            yield f"not ended: {wish.key} was never created, or nobody knows it"
    for run_id, workflow, status, due_at, paused_at in rows(OPEN_RUNS):
        stages = "; ".join(
            f"{stage}{'' if item < 0 else f'[{item}]'} {state} due {due} worker {worker} waits for {kind} until {wake}"
            for stage, item, state, due, worker, kind, wake in rows(OPEN_STAGES, run_id)
        )
        paused = f", paused since {paused_at}" if paused_at else ""
        yield f"not ended: run {run_id} of {workflow} is {status}, due {due_at}{paused}; {stages or 'no open stage'}"
    for row in rows("SELECT run_id, subscriber, last_sequence, target, due_at FROM workflow_engine_eventcursor"):
        yield f"not delivered: {row}"
    for row in rows("SELECT run_id, sequence, type FROM workflow_engine_outboxevent WHERE pending"):
        yield f"not handed on: {row}"
    for row in rows("SELECT run_id, kind, due_at, tries FROM workflow_engine_runnotice"):
        yield f"not told: {row}"
