"""What must hold of every run, whatever happened to it. Each function raises AssertionError naming the run."""

from __future__ import annotations

from collections import Counter
from math import isclose
from typing import Any

from workflow_engine.kernel.totals import sum_of
from workflow_engine.models import OutboxEvent, StageAttempt, StageRun, WorkflowRun
from workflow_engine.statuses import DONE_STAGE, FINISHED_RUN, OPEN_STAGE, StageStatus

TERMINAL_EVENTS = {"run.completed", "run.failed", "run.cancelled"}


def check_all() -> int:
    """Check every run in the database and return how many there are."""
    runs = list(WorkflowRun.objects.select_related("data"))
    for run in runs:
        check_run(run)
    return len(runs)


def events(run: WorkflowRun) -> list[str]:
    """Return the types of a run's events in order, having checked that their numbers have no gaps."""
    rows = list(OutboxEvent.objects.filter(run=run).order_by("sequence"))
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert WorkflowRun.objects.get(pk=run.pk).event_seq == len(rows)
    return [row.type for row in rows]


def check_run(run: WorkflowRun) -> None:
    events = list(OutboxEvent.objects.filter(run=run).order_by("sequence"))
    stages = list(StageRun.objects.filter(run=run))
    attempts = list(StageAttempt.objects.filter(run=run))
    _check_events(run, events)
    _check_stages(run, stages, attempts, events)
    _check_generations(run, stages)
    _check_totals(run, stages)
    _check_order(run, stages)
    for earlier, later in ((run.created_at, run.started_at), (run.started_at, run.finished_at)):
        assert not (earlier and later) or earlier <= later, f"run {run.pk}: times out of order"
    assert (run.finished_at is not None) == (run.status in FINISHED_RUN), run.pk


def _check_events(run: WorkflowRun, events: list[OutboxEvent]) -> None:
    assert [event.sequence for event in events] == list(range(1, run.event_seq + 1)), f"run {run.pk}: gaps in events"
    numbers = [event.generation for event in events]
    assert numbers == sorted(numbers), f"run {run.pk}: an event of an earlier generation came late"
    for generation in range(run.generation + 1):
        types = [event.type for event in events if event.generation == generation]
        _check_generation(run, generation, types)


def _check_generation(run: WorkflowRun, generation: int, types: list[str]) -> None:
    """A generation begins with its rerun and, unless it is the one that goes on, has one end."""
    where = f"run {run.pk}, generation {generation}"
    assert [at for at, kind in enumerate(types) if kind == "run.rerun"] == ([0] if generation else []), where
    terminal = [kind for kind in types if kind in TERMINAL_EVENTS]
    if generation < run.generation:
        assert len(terminal) == 1, f"{where} has ended with {terminal}"
    else:
        expected = [f"run.{run.status.lower()}"] if run.status in FINISHED_RUN else []
        assert terminal == expected, f"{where} is {run.status} and has {terminal}"
    if terminal:
        after = types[types.index(terminal[0]) + 1 :]
        assert all(kind == "annotation.created" for kind in after), f"{where}: events after the end"


def _check_stages(run: Any, stages: list[StageRun], attempts: list[StageAttempt], events: list[OutboxEvent]) -> None:
    completed = Counter(event.payload["stage_run_id"] for event in events if event.type == "stage.completed")
    won = Counter(attempt.stage_run_id for attempt in attempts if attempt.outcome == "completed")
    for stage in stages:
        once = 1 if stage.status == StageStatus.COMPLETED else 0
        assert completed[str(stage.pk)] == once, f"run {run.pk} {stage.stage}: {completed[str(stage.pk)]} completions"
        assert won[stage.pk] == once, f"run {run.pk} {stage.stage}: {won[stage.pk]} attempts won"
        assert (stage.output is not None) == bool(once), f"run {run.pk} {stage.stage}: output without completion"
        if run.status in FINISHED_RUN:
            assert stage.status not in OPEN_STAGE, f"run {run.pk} has ended, {stage.stage} is {stage.status}"
    for event in events:
        if event.type == "run.completed":
            planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
            done = sorted(stage.stage for stage in counting(stages, event.generation) if stage.status in DONE_STAGE)
            assert done == sorted(planned), f"run {run.pk} is COMPLETED without all of its stages"
    started = Counter(
        (event.payload["stage_run_id"], event.payload["token"]) for event in events if event.type == "stage.started"
    )
    assert all(count == 1 for count in started.values()), f"run {run.pk}: a token was handed out twice"


def counting(stages: list[StageRun], generation: int) -> list[StageRun]:
    """Return the rows that counted in a generation: of every unit of work the latest that there was."""
    latest: dict[tuple[str, int], StageRun] = {}
    for row in sorted(stages, key=lambda row: row.generation):
        if row.generation <= generation:
            latest[row.stage, row.map_index] = row
    return list(latest.values())


def _check_generations(run: WorkflowRun, stages: list[StageRun]) -> None:
    """Of every unit of work at most one row counts, the latest; those that do not will never do anything."""
    current = {row.pk for row in stages if row.superseded_at is None}
    for row in stages:
        assert row.generation <= run.generation, f"run {run.pk}: {row.stage} is ahead of its run"
        if row.superseded_at is not None:
            assert row.status not in OPEN_STAGE, f"run {run.pk}: {row.stage} was superseded while {row.status}"
            assert row.generation < run.generation, f"run {run.pk}: {row.stage} of this generation was superseded"
    assert current <= {row.pk for row in counting(stages, run.generation)}, f"run {run.pk}: two rows of a stage count"


def _check_totals(run: WorkflowRun, stages: list[StageRun]) -> None:
    kept = [row.metrics for row in stages if row.superseded_at is None and row.status == StageStatus.COMPLETED]
    cost, tokens = sum_of(kept)
    assert isclose(run.total_cost, cost, rel_tol=1e-9, abs_tol=1e-9), f"run {run.pk}: {run.total_cost} is not {cost}"
    assert run.total_tokens == tokens, f"run {run.pk}: {run.total_tokens} is not {tokens}"


def _check_order(run: WorkflowRun, stages: list[StageRun]) -> None:
    """No stage starts before the whole group before it has ended."""
    for stage in stages:
        seen = counting(stages, stage.generation)
        before = [item for item in seen if item.group_number == stage.group_number - 1]
        if stage.started_at is not None:
            assert all(item.status in DONE_STAGE for item in before), f"run {run.pk}: {stage.stage} started too early"
