"""Straight on: attempts that were alone in their group, finished by one statement where the database can do that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflow_engine.models import NOT_AN_ITEM, WorkflowRun
from workflow_engine.models.at_once import finish_at_once
from workflow_engine.statuses import StageStatus

from . import points
from .advance import Places, Starter, stage_event
from .events import Event, RunCompleted, StageCompleted, StageStarted
from .finished import Finished, Outcome
from .new_stages import NewStage, new_stages
from .ports import Message, Ports
from .started import InputReference, StartedStage, group_of, started_from
from .totals import totals_of
from .unit_of_work import UnitOfWork, goes_at_once


def can_go_straight(ports: Ports, outcome: Outcome) -> bool:
    """Whether nothing has to be read to know what follows. The outcome is one that can be finished with others."""
    if not goes_at_once(ports):
        return False
    if outcome.stage.map_index != NOT_AN_ITEM:
        return False
    return _width(outcome, outcome.stage.group_number) == 1


def finish_straight(work: UnitOfWork, outcomes: Sequence[Outcome], starter: Starter | None) -> list[Finished]:
    """Finish attempts of different runs; those that are missing in the answer are not finished (or void)."""
    ports = work.ports
    places = Places(starter, ports) if starter else None
    ended: list[dict[str, Any]] = []
    following: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    plans: list[tuple[Outcome, list[StartedStage], list[Message]]] = []
    # Those that only go on have their place; wide groups share what is left then.
    for outcome in sorted(outcomes, key=lambda outcome: _width(outcome, outcome.stage.group_number + 1)):
        run = _run_of(outcome)
        rows = new_stages(run, outcome.stage.group_number + 1, None)
        starting = _start(work, run, rows, places if outcome.may_go_on else None)
        told = _events_of(outcome, run, rows)
        ended.append(_ended_row(outcome, len(told), ends=not rows, limited=ports.is_limited(run.workflow)))
        following += [row.columns() for row in rows]
        events += [_event_row(work, run, number, event) for number, event in enumerate(told, start=1)]
        reference = InputReference({outcome.stage.stage_id: outcome.result.output})  # type: ignore[union-attr]
        started = [started_from(row, run, reference) for row in starting]
        rings = [Message(row.queue, row.id) for row in rows if row.worker is None]
        plans.append((outcome, started, rings))
    points.hit(points.COMPLETE_IN_TX)
    done = finish_at_once(ports.using, ended, following, events, work.causation_id)
    work.has_news = bool(done) and any(row["pending"] for row in events)
    work.keep_announced({outcome.stage.run_id for outcome in outcomes if outcome.stage.stage_run_id in done})
    kept = [plan for plan in plans if plan[0].stage.stage_run_id in done]
    work.ring_all([message for _, _, rings in kept for message in rings])
    for outcome, _, _ in kept:
        if done[outcome.stage.stage_run_id]:
            # Its run has ended, and another one waits for it.
            work.ring_queue(outcome.stage.queue)
    return [
        Finished(
            outcome.stage.stage_run_id,
            "completed",
            tuple(started),
            tells=done[outcome.stage.stage_run_id],
        )
        for outcome, started, _ in kept
    ]


def _run_of(outcome: Outcome) -> WorkflowRun:
    """Return the run as far as the attempt knows it."""
    stage = outcome.stage
    run = WorkflowRun(id=stage.run_id, workflow=stage.workflow_id, generation=stage.generation, priority=stage.priority)
    run.keep_data(stage.data)  # type: ignore[arg-type]
    return run


def _width(outcome: Outcome, number: int) -> int:
    return len(group_of(outcome.stage.data.plan, number))  # type: ignore[union-attr]


def _start(work: UnitOfWork, run: WorkflowRun, rows: list[NewStage], places: Places | None) -> list[NewStage]:
    if places is None or run.workflow not in work.ports.known_workflows():
        return []
    starting = [row for row in rows if not row.conditional and places.take(run, row.stage, row.queue)]
    for row in starting:
        row.start(worker=places.starter.worker_id, at=None, alone=places.starter.alone)
    return starting


def _events_of(outcome: Outcome, run: WorkflowRun, rows: list[NewStage]) -> list[Event]:
    told: list[Event] = [StageCompleted(**stage_event(outcome.stage), duration_ms=outcome.duration_ms)]
    told += [StageStarted(**stage_event(row)) for row in rows if row.worker is not None]
    if not rows:
        # Duration and totals are known to the statement only, which adds them.
        told.append(RunCompleted(workflow_id=run.workflow, output=(outcome.stage.stage_id,)))
    return told


def _ended_row(outcome: Outcome, events: int, *, ends: bool, limited: bool) -> dict[str, Any]:
    stage, result = outcome.stage, outcome.result
    cost, tokens = totals_of(result.notes.metrics)
    return {
        "run_id": stage.run_id,
        "stage_run_id": stage.stage_run_id,
        "generation": stage.generation,
        "stage_id": stage.stage_id,
        "attempt_number": stage.attempt,
        "held_token": stage.token,
        "holder": stage.worker_id,
        "output": result.output,  # type: ignore[union-attr]
        "metrics": dict(result.notes.metrics) or None,
        "cost": cost,
        "tokens": tokens,
        "elapsed": outcome.elapsed.total_seconds(),
        "events": events,
        "ends": ends,
        "limited": ends and limited,
        # As data: with a literal the planner may read the whole partial index of what runs.
        "leaving": StageStatus.RUNNING,
    }


def _event_row(work: UnitOfWork, run: WorkflowRun, number: int, event: Event) -> dict[str, Any]:
    return {
        "run_id": run.pk,
        "number": number,
        "type": event.type,
        "payload": event.payload(),
        "pending": work.announce(run.pk, run.workflow, event),
    }
