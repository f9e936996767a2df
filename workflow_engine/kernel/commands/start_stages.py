"""``stage.start``: due stages begin in the caller's process, each with a fencing token."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from django.db import Error
from django.db.models import Q

from workflow_engine.errors import WorkflowEngineError, WorkflowNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Starter, stage_event
from workflow_engine.kernel.events import StageStarted
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import StartedStage, find_input, started_from
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun
from workflow_engine.statuses import RunStatus, StageStatus

from .base import Command, handles

logger = logging.getLogger(__name__)
UNKNOWN_STAGE_WAIT = timedelta(seconds=30)
MAX_PASSES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class StartStagesResult:
    started: tuple[StartedStage, ...] = ()
    # Somebody else has them, or their run has ended.
    dropped: int = 0
    # The code here does not know the stage: due again in half a minute.
    deferred: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StartStages(Command[StartStagesResult]):
    """Start due stages, up to ``starter.slots``.

    A suspect (it ran when a whole process died) is started only as the one stage of an idle process.

    Args:
        idle: nothing runs in the caller's process, so a suspect may start, alone.
        suspects_only: the process has become idle for a suspect's sake.
        stage_run_ids: only these (hints from a message); None: any that are due.
        run_id: only stages of this run.
    """

    type = "stage.start"
    starter: Starter
    idle: bool = False
    suspects_only: bool = False
    stage_run_ids: tuple[uuid.UUID, ...] | None = None
    run_id: uuid.UUID | None = None


@handles(StartStages)
def start_stages(command: StartStages, ports: Ports, causation_id: uuid.UUID) -> StartStagesResult:
    started: list[StartedStage] = []
    dropped = deferred = 0
    passed: list[uuid.UUID] = []
    try:
        # A run that somebody holds for long must not hide the due stages of others behind it.
        for _ in range(MAX_PASSES):
            left = command.starter.slots - len(started)
            idle = command.idle and not started
            candidates = _candidates(command, ports, passed, left, idle=idle) if left > 0 else []
            for run_id, rows in groupby(sorted(candidates, key=lambda row: row.run_id), key=lambda row: row.run_id):
                result = _start_in_run(command, ports, causation_id, run_id, list(rows))
                started += result.started
                dropped += result.dropped
                deferred += result.deferred
                passed.append(run_id)
                points.hit(points.START_AFTER)
            if not candidates or dropped + deferred == 0 or any(stage.alone for stage in started):
                break
    except (WorkflowEngineError, Error) as error:
        if not started:
            raise
        # What was committed runs here; nobody else would know.
        logger.warning("taking ended early started=%s error=%s", len(started), error)
    return StartStagesResult(started=tuple(started), dropped=dropped, deferred=deferred)


def _candidates(
    command: StartStages, ports: Ports, passed: list[uuid.UUID], slots: int, *, idle: bool
) -> list[StageRun]:
    """Pick rows without a lock; the run's lock and the guarded update decide."""
    starter = command.starter
    queues = None if starter.queues is None else list(starter.queues)
    rows = StageRun.objects.using(ports.using).startable(ports.clock.db_now(), queues, ports.known_workflows())
    if command.run_id is not None:
        rows = rows.filter(run=command.run_id)
    if command.stage_run_ids is not None:
        rows = rows.filter(pk__in=command.stage_run_ids)
    if not idle:
        rows = rows.filter(suspect=False)
    elif command.suspects_only:
        rows = rows.filter(suspect=True)
    picked = list(rows.exclude(run__in=passed)[:slots])
    if idle and picked and picked[0].suspect:
        return picked[:1]
    return [row for row in picked if not row.suspect]


def _start_in_run(
    command: StartStages, ports: Ports, causation_id: uuid.UUID, run_id: uuid.UUID, candidates: list[StageRun]
) -> StartStagesResult:
    def step(work: UnitOfWork) -> StartStagesResult:
        # Copies: a try that is rolled back must not have changed what the next one begins with.
        rows = [copy(row) for row in candidates]
        run = work.lock_run(run_id, skip_locked=not work.repeated)
        if run is None or run.status != RunStatus.RUNNING or run.paused_at is not None:
            return StartStagesResult(dropped=len(rows))
        known, unknown = _split(ports, run.workflow, rows)
        for row in unknown:
            row.defer(due_at=work.now + UNKNOWN_STAGE_WAIT)
        starter = command.starter
        for row in known:
            alone = starter.alone or row.suspect
            if row.start(worker=starter.worker_id, at=work.now, alone=alone):
                work.emit(run, StageStarted(**stage_event(row)))
        mine = _mine(work, known, starter)
        inputs = {number: find_input(run, number, ports.using) for number in {row.group_number for row in mine}}
        points.hit(points.START_IN_TX)
        return StartStagesResult(
            started=tuple(started_from(row, run, inputs[row.group_number]) for row in mine),
            dropped=len(known) - len(mine),
            deferred=len(unknown),
        )

    return transact(ports, causation_id, step)


def _split(ports: Ports, workflow_id: str, rows: Iterable[StageRun]) -> tuple[list[StageRun], list[StageRun]]:
    known: list[StageRun] = []
    unknown: list[StageRun] = []
    try:
        workflow = ports.registry.get_workflow(workflow_id)
    except WorkflowNotFound:
        return [], list(rows)
    for row in rows:
        (known if workflow.has_stage(row.stage) else unknown).append(row)
    return known, unknown


def _mine(work: UnitOfWork, rows: list[StageRun], starter: Starter) -> list[StageRun]:
    """Return the rows that this command started, also by a try whose COMMIT was not answered."""
    mine = [row for row in rows if row.status == StageStatus.RUNNING]
    if work.repeated and len(mine) < len(rows):
        rest = Q()
        for row in rows:
            if row not in mine:
                rest |= Q(pk=row.pk, token=row.token + 1)
        found = StageRun.objects.using(work.ports.using).filter(
            rest, status=StageStatus.RUNNING, worker=starter.worker_id
        )
        mine += list(found)
    return mine
