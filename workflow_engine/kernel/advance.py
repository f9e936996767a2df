"""What follows when a stage has ended: the next group, the end of the run, or nothing yet."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Literal

from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkflowRun
from workflow_engine.statuses import OPEN_STAGE, RunStatus, StageStatus

from .ending import cancel_open_stages
from .ending import fail_run as fail_run
from .events import RunCompleted, StageStarted
from .maps import items_ended
from .new_stages import new_stages
from .places import Places as Places
from .places import Starter as Starter
from .started import InputReference, StartedStage, fails_fast, find_input, plan_group, started_from
from .started import stage_event as stage_event
from .unit_of_work import UnitOfWork

Action = Literal["advanced", "completed", "failed", "noop"]


def open_group(
    work: UnitOfWork,
    run: WorkflowRun,
    number: int,
    places: Places | None,
    *,
    input: InputReference | None = None,
    leftovers: bool = False,
) -> list[StartedStage]:
    """Create the rows of a group; those for which there is a place are started at once, the others ring.

    Args:
        input: where the group's input lies, if the caller knows; else it is looked up when something starts.
        leftovers: rows of this group may exist already (an interrupted claim); those are left as they are.
    """
    rows = new_stages(run, number, work.now)
    starting = []
    if places is not None and not leftovers and run.paused_at is None:
        starting = [row for row in rows if not row.conditional and places.take(run, row.stage, row.queue)]
        for row in starting:
            row.start(worker=places.starter.worker_id, at=work.now, alone=places.starter.alone)
    if leftovers:
        left = [StageRun(**row.columns()) for row in rows]
        StageRun.objects.using(work.ports.using).bulk_create(left, ignore_conflicts=True)
    else:
        work.insert(StageRun, (row.columns() for row in rows))
    for row in rows:
        if row.status == StageStatus.RUNNING:
            work.emit(run, StageStarted(**stage_event(row)))
        else:
            work.ring(row)
    if not starting:
        return []
    reference = input or find_input(run, number, work.ports.using)
    return [started_from(row, run, reference) for row in starting]


def stage_ended(work: UnitOfWork, run: WorkflowRun, row: StageRun, places: Places | None = None) -> list[StartedStage]:
    """Decide what follows from the end of a stage, or of an item of a map, of a run whose lock is held.

    Returns what starts here; after a stage that has failed that can only be further items.
    """
    if row.map_index == NOT_AN_ITEM:
        settle(work, run, row.group_number)
        return []
    done = row.status == StageStatus.COMPLETED
    return items_ended(work, run, row.stage, row.generation, done=int(done), failed=int(not done), places=places)


def settle(
    work: UnitOfWork,
    run: WorkflowRun,
    number: int,
    places: Places | None = None,
    *,
    unfinished: Sequence[StageRun] | None = None,
    missing: Sequence[str] | None = None,
    input: InputReference | None = None,
) -> tuple[Action, list[StartedStage]]:
    """Decide what follows for a run whose lock is held, now that a stage of group ``number`` may have ended.

    Args:
        unfinished: the group's stages that have not succeeded, in order, if the caller has read them under the lock
            (or knows that there are none); None: they are read here.
        missing: the group's stages that have no row, likewise.
    """
    if run.status != RunStatus.RUNNING or work.is_ending(run):
        return "noop", []
    if unfinished is None:
        unfinished = unfinished_stages(work, [run]).get((run.pk, number), [])
    failed = next((row for row in unfinished if row.status == StageStatus.FAILED), None)
    if any(row.status in OPEN_STAGE for row in unfinished):
        if failed is None or not fails_fast(run, number):
            return "noop", []
        cancel_open_stages(work, run)
    if failed is not None:
        fail_run(work, run, {**(failed.error or {"code": "STAGE_FAILED"}), "stage": failed.stage})
        return "failed", []
    if missing is None:
        missing = missing_stages(work, [(run, number)]).get((run.pk, number), [])
    if unfinished or missing:
        # Nothing that may be taken for done: ``ReapStuckRuns`` decides.
        return "noop", []
    if plan_group(run, number + 1):
        return "advanced", open_group(work, run, number + 1, places, input=input)
    last = tuple(item["id"] for item in plan_group(run, number))
    _complete_run(work, run, last)
    return "completed", []


def _complete_run(work: UnitOfWork, run: WorkflowRun, output: tuple[str, ...]) -> None:
    took = work.now - run.started_at if run.started_at else None
    work.change_run(run, RunStatus.COMPLETED, leaving=(RunStatus.RUNNING,), finished_at=work.now)
    event = RunCompleted(
        workflow_id=run.workflow,
        output=output,
        duration_ms=None if took is None else round(took.total_seconds() * 1000),
        total_cost=run.total_cost or None,
        total_tokens=run.total_tokens or None,
    )
    work.emit(run, event)


def missing_stages(
    work: UnitOfWork, groups: Iterable[tuple[WorkflowRun, int]]
) -> dict[tuple[uuid.UUID, int], list[str]]:
    """Return the stages of the plans that have no row, by run id and group number of locked runs; one statement.

    A group of one stage is not asked about: whoever asks has just seen its row.
    """
    planned = {
        (run.pk, number): [item["id"] for item in plan_group(run, number)]
        for run, number in groups
        if len(plan_group(run, number)) > 1
    }
    if not planned:
        return {}
    rows = StageRun.objects.using(work.ports.using).current().stages()
    rows = rows.filter(run__in={run_id for run_id, _ in planned})
    there = set(rows.values_list("run", "stage"))
    found = {key: [stage for stage in stages if (key[0], stage) not in there] for key, stages in planned.items()}
    return {key: stages for key, stages in found.items() if stages}


def unfinished_stages(work: UnitOfWork, runs: Sequence[WorkflowRun]) -> dict[tuple[uuid.UUID, int], list[StageRun]]:
    """Return the stages of locked runs that have not succeeded, by run id and group number; one statement."""
    found: dict[tuple[uuid.UUID, int], list[StageRun]] = {}
    for row in StageRun.objects.using(work.ports.using).unfinished([run.pk for run in runs]):
        found.setdefault((row.run_id, row.group_number), []).append(row)
    return found
