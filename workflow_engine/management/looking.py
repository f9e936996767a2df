"""What is to be seen of a run: its stages as they stand, its files, its log. Reads only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import RunNotFound
from workflow_engine.graphs import conditions_of
from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkflowArtifact, WorkflowLog, WorkflowRun
from workflow_engine.models.awaited import Awaited, asking_items, mapped_stages, stage_rows
from workflow_engine.models.maps import StageMap, counts_of
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.models.suspended import suspended_in_words
from workflow_engine.running import run_id_of
from workflow_engine.statuses import StageStatus, WaitKind

NOT_YET = "NOT STARTED"


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a suspended stage waits for; ``words`` go on after its name."""

    waits_for: str
    wait: str
    words: str
    suspended_at: datetime | None
    wake_at: datetime | None
    wait_until: datetime | None
    polls: int
    check_errors: int
    child_run_id: uuid.UUID | None = None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "wait": self.wait or None}


@dataclass(frozen=True, slots=True)
class StageLine:
    """A stage of a run. ``status`` is ``NOT_YET`` for a stage of the plan that has no row yet."""

    stage_id: str
    status: str = NOT_YET
    attempt: int = 0
    percent: float | None = None
    message: str = ""
    error: Mapping[str, Any] | None = None
    retry_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    # The condition of the plan, in words.
    when: str | None = None
    suspension: Suspension | None = None
    # Of a mapped stage: how many there are, done, failed, cancelled and running.
    items: Mapping[str, int] | None = None
    # The first of its items that waits for an answer: its index, and what it waits for.
    asking: tuple[int, Suspension] | None = None

    @property
    def remark(self) -> str:
        """Return what there is to say of a stage that is suspended, was skipped, or may be; else an empty text."""
        if self.suspension is not None:
            return self.suspension.words
        if self.when is not None and self.status == StageStatus.SKIPPED:
            return f"its condition does not hold: {self.when}"
        if self.items is not None:
            return self.message
        is_undecided = self.status == NOT_YET or (self.status == StageStatus.PENDING and not self.attempt)
        return f"only if {self.when}" if self.when is not None and is_undecided else ""

    @property
    def is_running(self) -> bool:
        return self.status == StageStatus.RUNNING

    @property
    def runs_items(self) -> bool:
        """Whether it is a mapped stage whose items are under way."""
        return self.suspension is not None and self.suspension.waits_for == WaitKind.ITEMS

    @property
    def question(self) -> str:
        """Return for which answer the stage, or one of its items, waits; empty if for none."""
        if self.asking is not None:
            return f"Stage {self.stage_id}: item {self.asking[0]} {self.asking[1].words}."
        asks = self.suspension is not None and self.suspension.waits_for == WaitKind.ANSWER
        return f"Stage {self.stage_id} {self.suspension.words}." if asks and self.suspension else ""

    @property
    def duration(self) -> timedelta | None:
        """Return how long the last attempt took, or has taken so far; None if nothing runs or ran."""
        if self.started_at is None or not (self.is_running or self.runs_items or self.finished_at):
            return None
        # A worker elsewhere may have started it by a clock that is ahead of ours.
        return max(timedelta(0), (self.finished_at or now()) - self.started_at)

    def as_json(self) -> dict[str, Any]:
        """Return plain data; ``duration`` in seconds."""
        return {
            "stage_id": self.stage_id,
            "status": None if self.status == NOT_YET else self.status,
            "attempt": self.attempt,
            "percent": self.percent,
            "message": self.message,
            "error": self.error,
            "retry_at": self.retry_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration": in_seconds(self.duration),
            "when": self.when,
            "suspended": None if self.suspension is None else self.suspension.as_json(),
            "items": self.items,
            "asking_item": None if self.asking is None else {"item": self.asking[0], **self.asking[1].as_json()},
        }


def now() -> datetime:
    """Return the engine's time."""
    return get_kernel().ports.clock.now()


def find_run(run_id: str) -> WorkflowRun:
    """Return the run with its data. Raises ``RunNotFound``."""
    run = _runs().filter(pk=run_id_of(run_id)).first()
    if run is None:
        raise RunNotFound(run_id)
    return run


def read_again(run: WorkflowRun) -> WorkflowRun:
    """Return the run as it is now; ``was_created`` is kept."""
    again = _runs().get(pk=run.pk)
    again.was_created = run.was_created
    return again


def _runs() -> WorkflowRunQuerySet:
    return WorkflowRun.objects.using(get_kernel().ports.using).select_related("data")


def stages_of(run: WorkflowRun) -> tuple[StageLine, ...]:
    """Return the current stages in the plan's order, those that have not begun included; of maps only their counts."""
    rows = {row.stage: row for row in stage_rows(run).defer("output", "config", "state", "item")}
    conditions, awaited = conditions_of(run.plan), Awaited(list(rows.values()), str(run._state.db), mapped_stages(run))
    asking = None
    if any(row.wait_kind == WaitKind.ITEMS for row in rows.values()):
        asking = asking_items(run).defer("output", "config", "state", "item").first()
    planned = [item["id"] for group in run.plan["groups"] for item in group["stages"]]
    return tuple(
        _line(rows[stage_id], conditions.get(stage_id), awaited, asking)
        if stage_id in rows
        else StageLine(stage_id, when=conditions.get(stage_id))
        for stage_id in planned
    )


def _line(row: StageRun, when: str | None, awaited: Awaited, asking: StageRun | None) -> StageLine:
    counts = awaited.counts(row)
    progress = (row.progress or {}) if counts is None else counts.as_progress()
    return StageLine(
        stage_id=row.stage,
        status=row.status,
        attempt=row.attempt,
        percent=progress.get("percent"),
        message=progress.get("message", ""),
        error=row.error,
        retry_at=row.due_at if row.status == StageStatus.PENDING and row.error else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
        when=when,
        suspension=_suspension(row, counts, awaited.child(row)) if row.status == StageStatus.SUSPENDED else None,
        items=None if counts is None else counts_of(counts),
        asking=None if asking is None or asking.stage != row.stage else (asking.map_index, _suspension(asking)),
    )


def _suspension(row: StageRun, counts: StageMap | None = None, child: WorkflowRun | None = None) -> Suspension:
    return Suspension(
        waits_for=row.wait_kind,
        wait=row.wait_name,
        words=suspended_in_words(row, counts=counts, child=child),
        suspended_at=row.suspended_at,
        wake_at=row.wake_time,
        wait_until=row.wait_until,
        polls=row.polls,
        check_errors=row.check_errors,
        child_run_id=None if child is None else child.pk,
    )


def answer_command(run: WorkflowRun, line: StageLine) -> str:
    """Return the command that answers a stage, or the first of its items that asks."""
    item = "" if line.asking is None else f" --item {line.asking[0]}"
    return f"manage.py wfe_answer {run.pk} {line.stage_id}{item} --data JSON"


def run_as_json(run: WorkflowRun) -> dict[str, Any]:
    """Return the run's own facts as plain data; ``duration`` in seconds, from its creation to its end."""
    return {
        "run_id": run.pk,
        "workflow_id": run.workflow,
        "version": run.version,
        "status": run.status,
        "paused_at": run.paused_at,
        "priority": run.priority,
        "generation": run.generation,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration": in_seconds(duration_of(run)),
        "total_cost": run.total_cost,
        "total_tokens": run.total_tokens,
        "error": run.error,
        "parent_run_id": run.parent_run_id,
        "parent_stage_run_id": run.parent_stage_run_id,
        "root_run_id": run.root_run_id,
        "depth": run.depth,
    }


def duration_of(run: WorkflowRun) -> timedelta | None:
    """Return the time from the run's creation to its end; None while it goes on."""
    return run.finished_at - run.created_at if run.finished_at else None


def artifacts_of(run: WorkflowRun) -> list[WorkflowArtifact]:
    """Return the files of the run's current stages, by stage and name."""
    rows = WorkflowArtifact.objects.using(get_kernel().ports.using)
    return list(rows.filter(run=run.pk, stage_run__superseded_at__isnull=True).order_by("stage_run", "name"))


def artifact_as_json(artifact: WorkflowArtifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "stage_id": artifact.stage,
        "size": artifact.size,
        "content_type": artifact.content_type,
        "key": artifact.key,
    }


def last_lines(run: WorkflowRun, count: int) -> list[Any]:
    """Return the last log lines, the oldest first; each knows its ``map_index``."""
    rows = WorkflowLog.objects.using(get_kernel().ports.using).filter(run=run.pk)
    return list(reversed(rows.annotate(map_index=F("stage_run__map_index")).order_by("-id")[:count]))


def item_of(line: Any) -> int | None:
    """Return the index of the item that has logged a line; None: no item of a map has."""
    return None if line.map_index in (None, NOT_AN_ITEM) else int(line.map_index)


def log_as_json(line: Any) -> dict[str, Any]:
    return {
        "at": line.created_at,
        "level": line.level,
        "stage_id": line.stage,
        "item_index": item_of(line),
        "attempt": line.attempt,
        "message": line.message,
        "fields": line.fields,
    }


def in_seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
