"""Stages of a run as JSON, with what only the definition knows: the schemas of awaited answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from workflow_engine.definitions import get_workflow
from workflow_engine.errors import StageNotFound, WorkflowNotFound
from workflow_engine.graphs import conditions_of
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.awaited import Awaited, mapped_stages
from workflow_engine.statuses import WaitKind

from .serializers import StageSummarySerializer


def show_stages(run: WorkflowRun, rows: Iterable[StageRun], serializer: type[StageSummarySerializer]) -> Any:
    """Return the rows as JSON."""
    found = list(rows)
    context = {
        "conditions": conditions_of(run.plan),
        "question": _questions(run.workflow),
        "awaited": Awaited(found, str(run._state.db), mapped_stages(run)),
    }
    return serializer(found, many=True, context=context).data


def _questions(workflow_id: str) -> Callable[[StageRun], Any]:
    """Return a function that describes the answer for which a row waits; None if this code does not know it."""
    known: dict[tuple[str, str], Any] = {}

    def question(row: StageRun) -> Any:
        if row.wait_kind != WaitKind.ANSWER:
            return None
        key = (row.stage, row.wait_name)
        if key not in known:
            # Many items of a stage wait for the same.
            known[key] = _describe(workflow_id, *key)
        return known[key]

    return question


def _describe(workflow_id: str, stage_id: str, name: str) -> Any:
    try:
        wait = get_workflow(workflow_id).get_stage(stage_id).get_wait(name)
    except (WorkflowNotFound, StageNotFound):
        return None
    return None if wait is None else dict(wait.as_json())
