"""Many attempts that ended at the same moment, finished in one transaction: the engine's fast path."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from workflow_engine.definitions.results import Completed, Expanded
from workflow_engine.models import NOT_AN_ITEM, StageAttempt, StageRun, WorkflowRun
from workflow_engine.statuses import RunStatus, StageStatus

from . import points
from .advance import Places, Starter, settle, stage_event, unfinished_stages
from .events import StageCompleted, StageStarted
from .finished import Finished, Outcome, attempt_of
from .maps import items_ended
from .ports import Ports
from .started import InputReference, StartedStage, plan_group, started_from
from .unit_of_work import UnitOfWork


def can_join(outcome: Outcome) -> bool:
    """Whether the attempt only has a small output to store; everything else is finished alone.

    Items of maps join whatever became of them: alone they would only have to wait for each other's run.
    """
    result = outcome.result
    if outcome.stage.data is None or isinstance(result, Expanded):
        return False
    if isinstance(result, Completed):
        if "blob" in result.output:
            return False
    elif outcome.stage.map_index == NOT_AN_ITEM:
        return False
    notes = result.notes
    return not notes.artifacts and not notes.annotations and not notes.on_complete


def finish_together(work: UnitOfWork, outcomes: Sequence[Outcome], starter: Starter | None) -> list[Finished]:
    """Finish completed attempts of any number of runs; those of runs that somebody holds are left out.

    The runs are locked first, in the order of their ids, and nothing is waited for. The tokens are checked by the one
    statement that stores the outputs; what follows is decided only for those that it changed.
    """
    using = work.ports.using
    # Of two attempts of a run the later generation's counts: a rerun may have changed the config.
    data = {one.stage.run_id: one.stage.data for one in sorted(outcomes, key=lambda one: one.stage.generation)}
    locked = work.lock_hot(list(data))
    runs = {run.pk: run for run in locked}
    for run in locked:
        run.keep_data(data[run.pk])  # type: ignore[arg-type]
    held = [outcome for outcome in outcomes if outcome.stage.run_id in runs]
    joined = [outcome for outcome in held if isinstance(outcome.result, Completed)]
    kept = StageRun.objects.using(using).complete_all(
        [
            (outcome.stage.stage_run_id, outcome.stage.token, outcome.result.output, outcome.result.notes.metrics)  # type: ignore[union-attr]
            for outcome in joined
        ],
        at=work.now,
    )
    done = [outcome for outcome in joined if outcome.stage.stage_run_id in kept]
    work.insert(StageAttempt, (attempt_of(work, outcome) for outcome in done))
    for outcome in done:
        event = StageCompleted(**stage_event(outcome.stage), duration_ms=outcome.duration_ms)
        work.emit(runs[outcome.stage.run_id], event)
        work.add_to_totals(runs[outcome.stage.run_id], outcome.result.notes.metrics)
    places = Places(starter, work.ports) if starter else None
    started = _settle_all(work, runs, done, places)
    others = _finish_others(work, runs, [one for one in held if not isinstance(one.result, Completed)], places)
    points.hit(points.COMPLETE_IN_TX)
    return others + [
        Finished(pk, "completed" if pk in kept else "ghost", tuple(started.get(pk, ())), tells=work.tells)
        for pk in (outcome.stage.stage_run_id for outcome in joined)
    ]


def _finish_others(
    work: UnitOfWork, runs: dict[uuid.UUID, WorkflowRun], outcomes: Sequence[Outcome], places: Places | None
) -> list[Finished]:
    """Finish items that have failed, are tried again or wait: one after the other, in the same transaction."""
    from .finishing import finish_one

    finished = []
    for outcome in outcomes:
        stage = outcome.stage
        done = finish_one(work, runs[stage.run_id], outcome, places if outcome.may_go_on else None)
        finished.append(replace(done, tells=work.tells) if done else Finished(stage.stage_run_id, "ghost"))
    return finished


def _settle_all(
    work: UnitOfWork,
    runs: dict[uuid.UUID, WorkflowRun],
    done: Sequence[Outcome],
    places: Places | None,
) -> dict[uuid.UUID, list[StartedStage]]:
    """Advance every run once; return what starts here, by the stage run whose place it takes."""
    started = _count_items(work, runs, [one for one in done if one.stage.map_index != NOT_AN_ITEM], places)
    done = [outcome for outcome in done if outcome.stage.map_index == NOT_AN_ITEM]
    wide = {
        outcome.stage.run_id
        for outcome in done
        if len(plan_group(runs[outcome.stage.run_id], outcome.stage.group_number)) > 1
    }
    unfinished = unfinished_stages(work, [runs[run_id] for run_id in wide]) if wide else {}
    by_group: dict[tuple[uuid.UUID, int], list[Outcome]] = {}
    for outcome in done:
        by_group.setdefault((outcome.stage.run_id, outcome.stage.group_number), []).append(outcome)
    # Those that only go on have their place; wide groups share what is left then.
    for run_id, number in sorted(by_group, key=lambda key: len(plan_group(runs[key[0]], key[1] + 1)) > 1):
        run, group = runs[run_id], by_group[run_id, number]
        last, left = group[-1], unfinished.get((run_id, number), [])
        goes_on = places if last.may_go_on else None
        following = _start_siblings(work, run, left, last, goes_on)
        # The rows of a group were inserted together: whether all of them are still there only janitors ask.
        following += complete(work, run, last, goes_on, unfinished=left, missing=())
        started[last.stage.stage_run_id] = following
    return started


def _count_items(
    work: UnitOfWork, runs: dict[uuid.UUID, WorkflowRun], done: Sequence[Outcome], places: Places | None
) -> dict[uuid.UUID, list[StartedStage]]:
    """Count the items that have completed; return what starts in their places."""
    by_map: dict[tuple[uuid.UUID, str, int], list[Outcome]] = {}
    for outcome in done:
        stage = outcome.stage
        by_map.setdefault((stage.run_id, stage.stage_id, stage.generation), []).append(outcome)
    started: dict[uuid.UUID, list[StartedStage]] = {}
    for (run_id, stage_id, generation), items in by_map.items():
        here = places if all(item.may_go_on for item in items) else None
        following = items_ended(work, runs[run_id], stage_id, generation, done=len(items), places=here)
        started[items[-1].stage.stage_run_id] = following
    return started


def _start_siblings(
    work: UnitOfWork, run: WorkflowRun, rows: Sequence[StageRun], ended: Outcome, places: Places | None
) -> list[StartedStage]:
    """Give the places of stages that have ended to those of the same group that still wait for one."""
    if places is None or run.status != RunStatus.RUNNING or run.paused_at is not None:
        return []
    waiting = [row for row in rows if row.status == StageStatus.PENDING and row.due_at <= work.now]
    # What has a condition is decided first, outside of this transaction; what is suspect runs alone.
    waiting = [row for row in waiting if not row.suspect and not (row.conditional and row.attempt == 0)]
    if not waiting or not _knows(work.ports, run):
        return []
    starter = places.starter
    taken = [row for row in waiting if places.take(run, row.stage, row.queue)]
    stages = StageRun.objects.using(work.ports.using)
    begun = stages.start_all(taken, worker=starter.worker_id, at=work.now, alone=starter.alone)
    for row in begun:
        row.config = dict(run.data.config_of(row.stage))
        work.emit(run, StageStarted(**stage_event(row)))
    # The stages of a group have the same input.
    return [started_from(row, run, ended.stage.input) for row in begun]


def complete(
    work: UnitOfWork,
    run: WorkflowRun,
    outcome: Outcome,
    places: Places | None,
    *,
    unfinished: Sequence[StageRun] | None = None,
    missing: Sequence[str] | None = None,
) -> list[StartedStage]:
    """Advance a run whose stage has just completed; return what the caller goes on with."""
    stage = outcome.stage
    if stage.map_index != NOT_AN_ITEM:
        return items_ended(work, run, stage.stage_id, stage.generation, done=1, places=places)
    lone = len(plan_group(run, stage.group_number)) == 1
    output = outcome.result.output  # type: ignore[union-attr]
    _, started = settle(
        work,
        run,
        stage.group_number,
        places if _knows(work.ports, run) else None,
        # A stage alone in its group has no siblings to wait for, and its output is the next one's input.
        unfinished=() if lone else unfinished,
        missing=() if lone else missing,
        input=InputReference({stage.stage_id: output}) if lone else None,
    )
    return started


def _knows(ports: Ports, run: WorkflowRun) -> bool:
    return run.workflow in ports.known_workflows()
