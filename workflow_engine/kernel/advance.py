"""What follows when a stage has ended: the next group, the end of the run, or nothing yet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import DONE_STAGE, OPEN_STAGE, RunStatus, StageStatus

from .events import RunCompleted, RunFailed, StageStarted
from .started import InputReference, StartedStage, find_input, plan_group, started_from
from .unit_of_work import UnitOfWork

Action = Literal["advanced", "completed", "failed", "noop"]


@dataclass(frozen=True, slots=True)
class Starter:
    """A worker that can run stages right away: up to ``slots`` of its ``queues`` (None: of every queue)."""

    worker_id: uuid.UUID
    slots: int
    queues: tuple[str, ...] | None = None
    alone: bool = False

    def takes(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


def stage_event(row: StageRun) -> dict[str, Any]:
    """Return the fields that every event of a stage carries."""
    return {
        "stage_id": row.stage,
        "stage_run_id": str(row.pk),
        "attempt": row.attempt,
        "token": row.token,
        "item_index": row.item_index,
    }


def open_group(
    work: UnitOfWork,
    run: WorkflowRun,
    number: int,
    starter: Starter | None,
    *,
    input: InputReference | None = None,
    leftovers: bool = False,
) -> list[StartedStage]:
    """Create the rows of a group; those that ``starter`` can take are started at once, the others ring.

    Args:
        input: where the group's input lies, if the caller knows; else it is looked up when something starts.
        leftovers: rows of this group may exist already (an interrupted claim); those are left as they are.
    """
    rows = [_new_row(work, run, number, item) for item in plan_group(run, number)]
    starting = []
    if starter is not None and not leftovers and run.paused_at is None:
        # A stage that the code here does not have (a deploy under way) waits for a worker that has it.
        workflow = work.ports.registry.get_workflow(run.workflow)
        takes = [row for row in rows if starter.takes(row.queue) and workflow.has_stage(row.stage)]
        starting = takes[: starter.slots]
    for row in starting:
        row.status, row.token, row.attempt = StageStatus.RUNNING, 1, 1
        row.worker, row.alone, row.started_at = starter.worker_id, starter.alone, work.now  # type: ignore[union-attr]
    StageRun.objects.using(work.ports.using).bulk_create(rows, ignore_conflicts=leftovers)
    for row in rows:
        if row in starting:
            work.emit(run, StageStarted(**stage_event(row)))
        else:
            work.ring(row)
    if not starting:
        return []
    reference = input or find_input(run, number, work.ports.using)
    return [started_from(row, run, reference) for row in starting]


def _new_row(work: UnitOfWork, run: WorkflowRun, number: int, item: Any) -> StageRun:
    groups = run.plan["groups"]
    before = sum(len(group["stages"]) for group in groups[: number - 1])
    ids = [stage["id"] for stage in groups[number - 1]["stages"]]
    return StageRun(
        run_id=run.pk,
        stage=item["id"],
        group_number=number,
        stage_number=before + ids.index(item["id"]) + 1,
        generation=run.generation,
        queue=item["queue"],
        priority=run.priority,
        due_at=work.now,
        # The run's own place: runs that began earlier end earlier.
        rank_at=run.rank_at,
        config=run.data.config_of(item["id"]),
    )


def settle(
    work: UnitOfWork,
    run: WorkflowRun,
    number: int,
    starter: Starter | None = None,
    *,
    only_completed: StageRun | None = None,
    input: InputReference | None = None,
) -> tuple[Action, list[StartedStage]]:
    """Decide what follows for a run whose lock is held, now that a stage of group ``number`` may have ended.

    Args:
        only_completed: the one stage of a group of one that this transaction has completed: its siblings need not
            be read, there are none.
    """
    if run.status != RunStatus.RUNNING or work.is_ending(run):
        return "noop", []
    if only_completed is None:
        rows = list(
            StageRun.objects.using(work.ports.using)
            .current()
            .filter(run=run, group_number=number)
            .exclude(status__in=DONE_STAGE)
            .order_by("stage_number", "map_index", "id")
            .only("stage", "status", "error")
        )
        if any(row.status in OPEN_STAGE for row in rows):
            return "noop", []
        if rows:
            _fail_run(work, run, rows[0])
            return "failed", []
    if plan_group(run, number + 1):
        return "advanced", open_group(work, run, number + 1, starter, input=input)
    last = tuple(item["id"] for item in plan_group(run, number))
    work.change_run(run, RunStatus.COMPLETED, leaving=(RunStatus.RUNNING,), finished_at=work.now)
    work.emit(run, RunCompleted(workflow_id=run.workflow, output=last))
    return "completed", []


def _fail_run(work: UnitOfWork, run: WorkflowRun, failed: StageRun) -> None:
    error = {**(failed.error or {"code": "STAGE_FAILED"}), "stage": failed.stage}
    work.change_run(run, RunStatus.FAILED, leaving=(RunStatus.RUNNING,), finished_at=work.now, error=error)
    work.emit(run, RunFailed(workflow_id=run.workflow, error=error))
