"""What a rerun keeps and what it runs again: decided by the plan that the run has stored, and its current rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow_engine.errors import FieldError, InvalidConfig, InvalidTransition, RunNotFound, StageNotFound
from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkflowRun
from workflow_engine.models.awaited import stage_rows
from workflow_engine.statuses import DONE_STAGE

from .payloads import check_column
from .ports import Ports


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of the run's plan as it stands; ``status`` is empty before it has begun to exist."""

    stage_id: str
    group: int
    status: str

    def as_json(self) -> dict[str, Any]:
        return {"stage_id": self.stage_id, "group": self.group, "status": self.status or None}


@dataclass(frozen=True, slots=True)
class RerunPlan:
    """What a rerun from ``stage_id`` would do; nothing was written.

    ``generation`` is the one that it would begin. ``refused`` names the stages from which the run cannot be rerun now,
    because one in a group before them has not succeeded.
    """

    run_id: uuid.UUID
    stage_id: str
    generation: int
    kept: tuple[PlannedStage, ...]
    again: tuple[PlannedStage, ...]
    refused: tuple[str, ...]
    # Of the mapped stage only the items that have not succeeded run again: so many.
    only_failed_items: bool = False
    items_again: int | None = None

    @property
    def group(self) -> int:
        """The number of the first group that runs again."""
        return self.again[0].group

    def as_json(self) -> dict[str, Any]:
        """Return plain data; the status of a stage that has not begun is None."""
        return {
            "run_id": self.run_id,
            "stage_id": self.stage_id,
            "generation": self.generation,
            "kept": [one.as_json() for one in self.kept],
            "again": [one.as_json() for one in self.again],
            "refused": list(self.refused),
            "only_failed_items": self.only_failed_items,
            "items_again": self.items_again,
        }


def preview(
    ports: Ports,
    run_id: uuid.UUID,
    stage_id: str,
    config: Mapping[str, Any] | None = None,
    *,
    only_failed_items: bool = False,
) -> RerunPlan:
    """Say what ``RerunFrom`` would do with the run as it is now. Raises what the command raises."""
    run = read_run(ports, run_id)
    merge_config(ports, run, stage_id, config)
    check_ended(run)
    rows = current_rows(ports, run) if only_failed_items else ()
    stages = standing(run, rows) if rows else standing_now(run)
    return make_plan(run, stage_id, stages, rows=rows, only_failed_items=only_failed_items)


def standing_now(run: WorkflowRun) -> list[PlannedStage]:
    """Return every stage of the run's plan with its status; no row of an item is read."""
    return standing(run, stage_rows(run).only("stage", "map_index", "status"))


def read_run(ports: Ports, run_id: uuid.UUID) -> WorkflowRun:
    """Return the run with its data, without a lock. Raises ``RunNotFound``."""
    run = WorkflowRun.objects.using(ports.using).select_related("data").filter(pk=run_id).first()
    if run is None:
        raise RunNotFound(run_id)
    return run


def current_rows(ports: Ports, run: WorkflowRun) -> list[StageRun]:
    """Return the rows that count, without what is large in them."""
    rows = StageRun.objects.using(ports.using).current().filter(run=run).in_order()
    return list(rows.only("stage", "group_number", "map_index", "status", "metrics"))


def standing(run: WorkflowRun, rows: Iterable[StageRun]) -> list[PlannedStage]:
    """Return every stage of the run's plan with its status."""
    statuses = {row.stage: row.status for row in rows if row.map_index == NOT_AN_ITEM}
    return [
        PlannedStage(item["id"], number, statuses.get(item["id"], ""))
        for number, group in enumerate(run.plan["groups"], start=1)
        for item in group["stages"]
    ]


def check_ended(run: WorkflowRun) -> None:
    """Raises ``InvalidTransition`` for a run that has not ended."""
    if not run.is_finished:
        raise InvalidTransition(
            f"Run {run.pk} is {run.status}: only a run that is COMPLETED, FAILED or CANCELLED can be rerun. "
            "Wait for its end, or cancel it first."
        )


def rerunnable(stages: Sequence[PlannedStage]) -> list[PlannedStage]:
    """Return the stages from which a run that has ended can be rerun: all before them have succeeded."""
    last = next((one.group for one in stages if one.status not in DONE_STAGE), None)
    return [one for one in stages if last is None or one.group <= last]


def make_plan(
    run: WorkflowRun,
    stage_id: str,
    stages: Sequence[PlannedStage],
    *,
    rows: Sequence[StageRun] = (),
    only_failed_items: bool = False,
) -> RerunPlan:
    """Return what a rerun of a run that has ended keeps and runs again.

    Args:
        rows: the current ones; needed for ``only_failed_items``.

    Raises:
        StageNotFound: the run's plan has no such stage.
        InvalidTransition: a stage in an earlier group has not succeeded, the text names the first; or there are no
            failed items.
    """
    number, allowed = group_number(run, stage_id), rerunnable(stages)
    if number > allowed[-1].group:
        unfinished = next(one for one in stages if one.status not in DONE_STAGE)
        state = f"is {unfinished.status}" if unfinished.status else "has not begun"
        raise InvalidTransition(
            f"Run {run.pk} cannot be rerun from stage {stage_id!r}: stage {unfinished.stage_id!r} before it {state}. "
            f"Rerun it from {unfinished.stage_id!r}, or from an earlier stage."
        )
    return RerunPlan(
        run_id=run.pk,
        stage_id=stage_id,
        generation=run.generation + 1,
        kept=tuple(one for one in stages if one.group < number),
        again=tuple(one for one in stages if one.group >= number),
        refused=tuple(one.stage_id for one in stages[len(allowed) :]),
        only_failed_items=only_failed_items,
        items_again=_failed_items(run, stage_id, rows) if only_failed_items else None,
    )


def _failed_items(run: WorkflowRun, stage_id: str, rows: Sequence[StageRun]) -> int:
    """Return how many items have not succeeded. Raises ``InvalidTransition`` if there are none."""
    items = [row for row in rows if row.stage == stage_id and row.map_index != NOT_AN_ITEM]
    failed = sum(row.status not in DONE_STAGE for row in items)
    if not failed:
        what = "none of its items has failed" if items else "it has no items"
        raise InvalidTransition(
            f"Run {run.pk} cannot rerun the failed items of stage {stage_id!r}: {what}. Rerun the stage as a whole."
        )
    return failed


def group_number(run: WorkflowRun, stage_id: str) -> int:
    """Return the number of the stage's group in the run's plan, from 1. Raises ``StageNotFound``."""
    groups = _groups_of(run)
    if stage_id not in groups:
        raise StageNotFound(run.workflow, stage_id, list(groups))
    return groups[stage_id]


def merge_config(
    ports: Ports, run: WorkflowRun, stage_id: str, config: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Lay ``config`` (stage id -> fields) over what the run has stored, field by field, and return what to store.

    Raises:
        StageNotFound: the run's plan has no stage ``stage_id``.
        WorkflowNotFound: there is config, and the workflow that says what fits is not registered here.
        InvalidConfig: with every error of every stage; a stage that does not run again takes none.
    """
    number, groups = group_number(run, stage_id), _groups_of(run)
    merged: dict[str, dict[str, Any]] = dict(run.data.config)
    if config is None:
        return merged
    workflow = ports.registry.get_workflow(run.workflow)
    if not isinstance(config, Mapping):
        problem = FieldError("", f"must map stage ids to config, got {type(config).__name__}")
        raise InvalidConfig(f"workflow {workflow.id!r}", [problem])
    errors: list[FieldError] = []
    for name, fields in config.items():
        if name not in groups:
            errors.append(FieldError(str(name), f"no such stage; known: {', '.join(groups)}"))
        elif groups[name] < number:
            errors.append(FieldError(name, "it keeps its result, so its config cannot change; rerun from it"))
        elif not workflow.has_stage(name):
            errors.append(FieldError(name, "the code here no longer has this stage"))
        elif not isinstance(fields, Mapping):
            errors.append(FieldError(name, f"must be an object, got {type(fields).__name__}"))
        else:
            value, problems = workflow.get_stage(name).signature.config.merge(fields, name, over=merged.get(name))
            errors += problems
            if value:
                merged[name] = value
    if errors:
        raise InvalidConfig(f"workflow {workflow.id!r}", errors)
    check_column(merged)
    return merged


def _groups_of(run: WorkflowRun) -> dict[str, int]:
    return {item["id"]: number for number, group in enumerate(run.plan["groups"], start=1) for item in group["stages"]}
