"""What must hold of every run, whatever happened to it. Each function raises AssertionError naming the run."""

from __future__ import annotations

from collections import Counter
from math import isclose
from typing import Any

from workflow_engine.kernel.totals import sum_of
from workflow_engine.models import (
    NOT_AN_ITEM,
    OutboxEvent,
    RunNotice,
    StageAttempt,
    StageMap,
    StageMemo,
    StageRun,
    WorkflowRun,
)
from workflow_engine.models.base import HELD_BACK
from workflow_engine.statuses import DONE_STAGE, FINISHED_RUN, OPEN_STAGE, MemoKind, StageStatus

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
    _check_maps(run, stages)
    _check_children(run)
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
        # A mapped stage ends with its items, and not by an attempt of its own.
        mine = 0 if (stage.output or {}).get("items") else once
        assert won[stage.pk] == mine, f"run {run.pk} {stage.stage}: {won[stage.pk]} attempts won"
        assert (stage.output is not None) == bool(once), f"run {run.pk} {stage.stage}: output without completion"
        if run.status in FINISHED_RUN:
            assert stage.status not in OPEN_STAGE, f"run {run.pk} has ended, {stage.stage} is {stage.status}"
    for event in events:
        if event.type == "run.completed":
            planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
            counted = [row for row in counting(stages, event.generation) if row.map_index == NOT_AN_ITEM]
            done = sorted(stage.stage for stage in counted if stage.status in DONE_STAGE)
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
        before = [row for row in seen if row.group_number == stage.group_number - 1 and row.map_index == NOT_AN_ITEM]
        if stage.started_at is not None:
            assert all(row.status in DONE_STAGE for row in before), f"run {run.pk}: {stage.stage} started too early"


def _check_maps(run: WorkflowRun, stages: list[StageRun]) -> None:
    """The counts of each map are those of its rows, and no more items are under way than may be."""
    for counts in StageMap.objects.filter(run=run):
        where = f"run {run.pk} {counts}, generation {counts.generation}"
        items = [row for row in counting(stages, counts.generation) if row.stage == counts.stage]
        items = [row for row in items if row.map_index != NOT_AN_ITEM]
        assert sorted(row.map_index for row in items) == list(range(counts.total)), where
        mine = Counter(row.status for row in items)
        for name, status in (("done", "COMPLETED"), ("failed", "FAILED"), ("cancelled", "CANCELLED")):
            assert getattr(counts, name) == mine[status], (
                f"{where}: {name} {getattr(counts, name)}, rows {mine[status]}"
            )
        open_rows = [row for row in items if row.status in OPEN_STAGE]
        under_way = [row for row in open_rows if row.due_at != HELD_BACK]
        assert len(under_way) == counts.opened - counts.ended, where
        assert len(under_way) <= counts.max_parallel, where
        owner = StageRun.objects.get(pk=counts.stage_run_id)
        if owner.status in DONE_STAGE:
            assert not open_rows, f"{where}: it is {owner.status}, and items are open"
        elif owner.status == StageStatus.SUSPENDED:
            assert open_rows, f"{where}: it waits for items that have ended"


def _check_children(run: WorkflowRun) -> None:
    """A run that was started by another one is known to it by one name; nothing waits for what has ended."""
    if run.parent_stage_run_id is not None:
        known = [
            memo.get_value()["run_id"]
            for memo in StageMemo.objects.filter(stage_run=run.parent_stage_run_id)
            if memo.kind == MemoKind.CHILD
        ]
        assert known.count(str(run.pk)) == 1, f"run {run.pk}: its parent knows it {known.count(str(run.pk))} times"
    if run.status in FINISHED_RUN and not RunNotice.objects.filter(sender=run.pk).exists():
        waiting = StageRun.objects.filter(pk=run.parent_stage_run_id, status=StageStatus.SUSPENDED, wait_kind="child")
        mine = [
            row
            for row in waiting
            if not WorkflowRun.objects.filter(parent_stage_run=row.pk, finished_at__isnull=True).exists()
        ]
        assert not mine, f"run {run.pk} has ended, and its parent still waits for it"
