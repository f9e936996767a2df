"""Runs that a limit of their workflow counts: they are held back until they have a place.

No claim finds them so, and nothing of the fast paths knows of limits. Whoever creates or ends such a run leaves a
notice in the same transaction that its limit is to be looked at; ``giving_places`` does that in another transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workflow_engine.definitions import Workflow
from workflow_engine.models import RunPlace, StageRun, WorkflowRun
from workflow_engine.models.base import HELD_BACK, rank
from workflow_engine.statuses import StageStatus

from .started import plan_group
from .unit_of_work import UnitOfWork


def limit_key_of(workflow: Workflow[Any, Any], data: Any) -> str | None:
    """Return the key of a run by its input as JSON data; None: nothing limits it. Raises ``InvalidInput``.

    Calls the user's code.
    """
    if workflow.concurrency is None:
        return None
    value = workflow.input.read(json.dumps(data)) if workflow.concurrency.key is not None else None
    return workflow.concurrency.key_of(workflow.id, value)


def wait_for_place(work: UnitOfWork, run: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the row of a new run that waits for a place from its due time on; its other rows go with the work."""
    wanted_at = run["due_at"]
    place = RunPlace.columns(run["id"], run["workflow"], key, wanted_at=wanted_at, priority=run["priority"])
    work.insert(RunPlace, [place])
    work.want_place(run["id"], due_at=wanted_at)
    return {**run, "due_at": HELD_BACK, "rank_at": HELD_BACK}


def want_place_again(work: UnitOfWork, run: WorkflowRun) -> bool:
    """Let a locked run that has ended, and is to run again, wait for a place; False: no limit counts it.

    Its row decides, since this process's code may be older.
    """
    places = RunPlace.objects.using(work.ports.using)
    if not places.want_again(run, work.now, rank(work.now, run.priority)):
        return False
    work.want_place(run.pk, due_at=work.now)
    work.ring_queue(plan_group(run, 1)[0]["queue"])
    return True


def hold_back(work: UnitOfWork, run: WorkflowRun) -> None:
    """Let the stages of a run that are about to be inserted wait until it has a place."""
    for row in work.new_rows(StageRun):
        if row["run_id"] == run.pk and row["status"] == StageStatus.PENDING:
            row |= {"due_at": HELD_BACK, "rank_at": HELD_BACK}  # type: ignore[operator]
