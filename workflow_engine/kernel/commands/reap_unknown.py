"""``definition.reap_unknown``: what no living worker knows waits for a while, in case of a deploy, and fails then."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from django.db.models import Q

from workflow_engine.kernel.advance import fail_run, stage_ended, stage_event
from workflow_engine.kernel.advertised import read_advertised, read_stopped
from workflow_engine.kernel.conflicts import is_away
from workflow_engine.kernel.ending import cancel_open_stages
from workflow_engine.kernel.events import StageFailed
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import OutboxEvent, RunPlace, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.models.base import read_clock
from workflow_engine.models.compiled import rows_of
from workflow_engine.statuses import RunStatus, StageStatus

from .base import Command, handles
from .start_stages import UNKNOWN_STAGE_WAIT

logger = logging.getLogger(__name__)
# A place in a queue: rank and id.
Place = tuple[datetime, uuid.UUID]
# Rows of a queue that are looked at by one command.
PAGE = 1_000
# After an outage workers come up one after the other: the first is not the judge of what the others know.
SETTLING = timedelta(minutes=5)
Verdict = Literal["marked", "cleared", "failed", "kept"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapUnknownResult:
    """Ids of runs and of stage runs. ``…_place``: where to go on; None: from the front."""

    marked: tuple[uuid.UUID, ...]
    cleared: tuple[uuid.UUID, ...]
    failed: tuple[uuid.UUID, ...]
    runs_place: Place | None
    stages_place: Place | None
    suspended_place: Place | None
    line_place: Place | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapUnknown(Command[ReapUnknownResult]):
    """Note since when no living worker knows what is due; fail it once that is longer than the grace.

    Of suspended stages that is what no other code can do: to end an overdue wait, to make a check.

    Args:
        max: at most so many changes.
        runs_after, stages_after, suspended_after, line_after: go on where an earlier command came to.
        lines: also at runs that wait for a place of a limit.
    """

    type = "definition.reap_unknown"
    max: int = 100
    runs_after: Place | None = None
    stages_after: Place | None = None
    suspended_after: Place | None = None
    line_after: Place | None = None
    lines: bool = False


@handles(ReapUnknown)
def reap_unknown(command: ReapUnknown, ports: Ports, causation_id: uuid.UUID) -> ReapUnknownResult:
    runs, runs_place = _waiting_runs(ports, command.runs_after)
    stages, stages_place = _waiting_stages(ports, command.stages_after)
    suspended, suspended_place = _suspended_stages(ports, command.suspended_after)
    in_line, line_place = _runs_in_line(ports, command.line_after) if command.lines else ([], None)
    done: dict[Verdict, list[uuid.UUID]] = {"marked": [], "cleared": [], "failed": [], "kept": []}
    for row in _to_judge(ports, [*runs, *stages, *suspended, *in_line]):
        if sum(map(len, done.values())) - len(done["kept"]) >= command.max:
            break
        judge = _judge_run if row.stage is None else _judge_stage
        try:
            verdict = transact(ports, causation_id, lambda work, judge=judge, row=row: judge(work, row))  # type: ignore[misc]
        except Exception as error:  # one bad row must not hide the others
            if is_away(error):
                raise
            logger.exception("unknown definition cannot be treated run=%s stage=%s", row.run_id, row.stage)
            continue
        done[verdict].append(row.id)
    return ReapUnknownResult(
        marked=tuple(done["marked"]),
        cleared=tuple(done["cleared"]),
        failed=tuple(done["failed"]),
        runs_place=runs_place,
        stages_place=stages_place,
        suspended_place=suspended_place,
        line_place=line_place,
    )


class _Row(NamedTuple):
    """What waits: a stage run, or a run that has not begun (without stage)."""

    id: uuid.UUID
    # Its place in the queue: its rank, or when it wakes.
    place: datetime
    unknown_since: datetime | None
    workflow: str
    run_id: uuid.UUID
    token: int = 0
    stage: str | None = None
    queue: str | None = None
    status: str = StageStatus.PENDING


def _after(rows: Any, place: Place | None, column: str = "rank_at") -> Any:
    if place is None:
        return rows
    since, pk = place
    return rows.filter(**{f"{column}__gte": since}).filter(Q(**{f"{column}__gt": since}) | Q(pk__gt=pk))


def _waiting_runs(ports: Ports, after: Place | None) -> tuple[list[_Row], Place | None]:
    rows = _after(WorkflowRun.objects.using(ports.using).waiting(ports.clock.db_now()), after)
    found = [_Row(*values) for values in _read(ports, after, rows, "pk", "rank_at", "unknown_since", "workflow", "pk")]
    return found, (found[-1].place, found[-1].id) if len(found) == PAGE else None


def _runs_in_line(ports: Ports, after: Place | None) -> tuple[list[_Row], Place | None]:
    """Return runs that wait for a place of a limit, which only their code knows, and the place after the page."""
    rows = _after(RunPlace.objects.using(ports.using).wanted(ports.clock.db_now()), after)
    columns = ("pk", "rank_at", "run__unknown_since", "workflow", "pk")
    found = [_Row(*values) for values in rows.values_list(*columns)[:PAGE]]
    return found, (found[-1].place, found[-1].id) if len(found) == PAGE else None


def _waiting_stages(ports: Ports, after: Place | None) -> tuple[list[_Row], Place | None]:
    """Return stages that wait in runs that go on, and the place after the page."""
    # A worker that knows the workflow but not the stage has put it off for a moment: it is due all the same.
    soon = ports.clock.db_now() + UNKNOWN_STAGE_WAIT
    return _page(ports, after, _after(StageRun.objects.using(ports.using).due(soon, None), after), "rank_at")


def _suspended_stages(ports: Ports, after: Place | None) -> tuple[list[_Row], Place | None]:
    """Return stages that wait for what only their code can do, of runs that go on, and the place after the page."""
    soon = ports.clock.db_now() + UNKNOWN_STAGE_WAIT
    rows = _after(StageRun.objects.using(ports.using).asking_for_code(soon), after, "wake_at")
    return _page(ports, after, rows, "wake_at")


def _read(ports: Ports, after: Place | None, rows: Any, *columns: str) -> list[Any]:
    """Return a page of rows; the statement of the first page, mostly an empty one, is compiled once."""
    keep = after is None and not ports.is_frozen
    return rows_of(ports.using, ("unknown", PAGE, *columns), lambda: rows.values_list(*columns)[:PAGE], keep=keep)


def _page(ports: Ports, after: Place | None, rows: Any, place: str) -> tuple[list[_Row], Place | None]:
    page = _read(ports, after, rows, "pk", place, "unknown_since", "run_id", "token", "stage", "queue", "status")
    if not page:
        return [], None
    # By a statement of its own: joined, all that waits would be read and sorted for one page of it.
    runs = WorkflowRun.objects.using(ports.using).filter(pk__in={values[3] for values in page})
    going_on = runs.filter(status=RunStatus.RUNNING, paused_at__isnull=True)
    workflows = dict(going_on.values_list("pk", "workflow"))
    found = [
        _Row(pk, since, unknown, workflows[run_id], run_id, *facts)
        for pk, since, unknown, run_id, *facts in page
        if run_id in workflows
    ]
    return found, (page[-1][1], page[-1][0]) if len(page) == PAGE else None


def _to_judge(ports: Ports, rows: Sequence[_Row]) -> Iterator[_Row]:
    """Yield what has to be looked at under a lock: what is to be marked, cleared or failed."""
    if not rows:
        # An idle tick stays cheap.
        return
    known = _Known(ports)
    if not known.advertised.anybody:
        return
    now: datetime | None = None
    for row in rows:
        since = row.unknown_since
        if known.has(row.workflow, row.stage, row.queue):
            if since is not None:
                yield row
            continue
        if since is not None and now is None:
            now = _time(ports)
        if since is None or now is None or now - since >= _grace(ports):
            yield row


class _Known:
    """What the living workers have, and what is paused, as of now."""

    def __init__(self, ports: Ports) -> None:
        self.advertised, self._stopped = read_advertised(ports), read_stopped(ports)

    def has(self, workflow: str, stage: str | None, queue: str | None) -> bool:
        """Whether it waits for something else than its definition."""
        if workflow in self._stopped.workflows or queue in self._stopped.queues:
            return True
        return self.advertised.has_workflow(workflow) if stage is None else self.advertised.has_stage(workflow, stage)


def _judge_run(work: UnitOfWork, candidate: _Row) -> Verdict:
    run = work.lock_run(candidate.run_id, skip_locked=True)
    if run is None or run.paused_at is not None or not (run.status == RunStatus.PENDING or _is_in_line(work, run)):
        return "failed" if run is not None and _failed_before(work, run) else "kept"
    verdict = _verdict(work, run, run, candidate)
    if verdict == "failed":
        cancel_open_stages(work, run)
        fail_run(work, run, _error(work, run.workflow), leaving=RunStatus(run.status))
        logger.warning("unknown workflow given up run=%s workflow=%s", run.pk, run.workflow)
    return verdict


def _is_in_line(work: UnitOfWork, run: WorkflowRun) -> bool:
    """Whether a run that goes on again waits for its place."""
    places = RunPlace.objects.using(work.ports.using)
    return run.status == RunStatus.RUNNING and places.waiting().filter(pk=run.pk).exists()


def _judge_stage(work: UnitOfWork, candidate: _Row) -> Verdict:
    run = work.lock_run(candidate.run_id, skip_locked=True)
    if run is None or run.status != RunStatus.RUNNING or run.paused_at is not None:
        return "failed" if run is not None and _failed_before(work, run) else "kept"
    rows = StageRun.objects.using(work.ports.using).current()
    row = rows.filter(pk=candidate.id, token=candidate.token, status=candidate.status, worker=None).first()
    if row is None:
        return "failed" if _failed_before(work, run) else "kept"
    verdict = _verdict(work, run, row, candidate)
    if verdict == "failed":
        error, facts = _error(work, run.workflow, row.stage), stage_event(row)
        fail = row.refuse if row.status == StageStatus.PENDING else row.fail_suspended
        if not fail(at=work.now, error=error):
            return "kept"
        work.emit(run, StageFailed(**facts, error=error))
        stage_ended(work, run, row)
        logger.warning("unknown stage given up run=%s workflow=%s stage=%s", run.pk, run.workflow, row.stage)
    return verdict


def _verdict(work: UnitOfWork, run: WorkflowRun, row: WorkflowRun | StageRun, candidate: _Row) -> Verdict:
    """Decide under the lock, and mark or clear the row."""
    # Asked again: a worker may have come up meanwhile.
    known, since = _Known(work.ports), row.unknown_since
    if known.has(candidate.workflow, candidate.stage, candidate.queue):
        return "cleared" if since is not None and row.mark_unknown(None) else "kept"
    is_over = since is not None and work.now - since >= _grace(work.ports)
    if since is None or (is_over and _was_paused(work, run, since)):
        return "marked" if row.mark_unknown(work.now) else "kept"
    return "failed" if is_over and _has_settled(work) else "kept"


def _grace(ports: Ports) -> timedelta:
    return timedelta(seconds=ports.limits.unknown_grace_seconds)


def _time(ports: Ports) -> datetime:
    now = ports.clock.db_now()
    return now if isinstance(now, datetime) else read_clock(ports.using)


def _was_paused(work: UnitOfWork, run: WorkflowRun, since: datetime) -> bool:
    """Whether the run was paused since then, when nobody asked who knows it: the grace begins again."""
    resumed = OutboxEvent.objects.using(work.ports.using).filter(run=run, type="run.resumed", occurred_at__gt=since)
    return resumed.exists()


def _has_settled(work: UnitOfWork) -> bool:
    """Whether some living worker has been up for a while."""
    alive = WorkerHeartbeat.objects.using(work.ports.using).alive(work.now)
    return alive.filter(started_at__lte=work.now - min(_grace(work.ports), SETTLING)).exists()


def _failed_before(work: UnitOfWork, run: WorkflowRun) -> bool:
    """Whether an earlier try of this step has failed the run, if its COMMIT was not answered."""
    mine = OutboxEvent.objects.using(work.ports.using).filter(run=run, causation_id=work.causation_id)
    return work.repeated and mine.exists()


def _error(work: UnitOfWork, workflow_id: str, stage: str | None = None) -> dict[str, Any]:
    what, code = f"workflow {workflow_id!r}", "WORKFLOW_NOT_FOUND"
    if stage is not None and read_advertised(work.ports).has_workflow(workflow_id):
        what, code = f"stage {stage!r} of workflow {workflow_id!r}", "STAGE_NOT_FOUND"
    grace = work.ports.limits.unknown_grace_seconds
    message = f"No living worker has known {what} for {grace:g} seconds (UNKNOWN_DEFINITION_GRACE_SECONDS)."
    return {"code": code, "class": "", "message": message, "stage": stage}
