"""``stage.start``: due stages begin in the caller's process, each with a fencing token."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Literal

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.models import Q

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, WorkflowEngineError, WorkflowNotFound
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Places, Starter, stage_event
from workflow_engine.kernel.conflicts import is_lost
from workflow_engine.kernel.events import StageStarted
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.skipping import decide
from workflow_engine.kernel.started import StartedStage, find_all_inputs, started_from
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkflowRun
from workflow_engine.models.runs import family
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import RunStatus, StageStatus

from .base import Command, handles

logger = logging.getLogger(__name__)
UNKNOWN_STAGE_WAIT = timedelta(seconds=30)
# Whether it is skipped could not be told: what it depends on cannot be read just now.
UNDECIDED_WAIT = timedelta(seconds=5)
MAX_PASSES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class StartStagesResult:
    started: tuple[StartedStage, ...] = ()
    # Somebody else has them, or their run has ended.
    dropped: int = 0
    # The code here does not know the stage, or its condition cannot be decided now: due again a little later.
    deferred: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StartStages(Command[StartStagesResult]):
    """Start due stages, up to ``starter.slots``.

    A suspect (it ran when a whole process died) is started only as the one stage of an idle process.

    Args:
        idle: nothing runs in the caller's process, so a suspect may start, alone.
        suspects_only: the process has become idle for a suspect's sake.
        kind: only stages that take a slot, or only those that run on the event loop.
        stage_run_ids: only these (hints from a message); None: any that are due.
        run_id: only stages of this run.
    """

    type = "stage.start"
    starter: Starter
    idle: bool = False
    suspects_only: bool = False
    kind: Literal["any", "slot", "loop"] = "any"
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
            left = command.starter.room - len(started)
            idle = command.idle and not started
            candidates = _candidates(command, ports, passed, left, idle=idle) if left > 0 else []
            decided = decide(ports, candidates, causation_id)
            startable, undecided = decided.startable, decided.undecided
            dropped += len(candidates) - len(startable) - len(undecided)
            deferred += len(undecided)
            _put_off(ports, causation_id, undecided)
            for result in _start(command, ports, causation_id, startable):
                started += result.started
                dropped += result.dropped
                deferred += result.deferred
                points.hit(points.START_AFTER)
            # Where stages were skipped what follows may be due by now.
            starting = {row.run_id for row in startable}
            passed += {row.run_id for row in candidates if row.run_id in starting or row.run_id not in decided.moved}
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
    queues, known, now = starter.queues, ports.takable_workflows(), ports.clock.db_now()
    paused = ports.pauses().queues

    def build() -> StageRunQuerySet:
        wanted = None if queues is None else list(queues)
        rows = StageRun.objects.using(ports.using).startable(now, wanted, known, paused=paused)
        if command.kind != "any":
            condition = loop_stages(ports)
            rows = rows.filter(condition) if command.kind == "loop" else rows.exclude(condition)
        if command.run_id is not None:
            rows = rows.filter(family("run", command.run_id))
        if command.stage_run_ids is not None:
            rows = rows.filter(pk__in=command.stage_run_ids)
        rows = rows.of_kind(items=starter.takes_items, others=starter.takes_others)
        if not idle:
            rows = rows.filter(suspect=False)
        elif command.suspects_only:
            rows = rows.filter(suspect=True)
        return rows.exclude(run__in=passed)[:slots]

    named = command.run_id is not None or command.stage_run_ids is not None or passed
    if named or not hasattr(now, "resolve_expression"):
        picked = list(build())
    else:
        on_loop = () if command.kind == "any" else tuple(sorted(ports.loop_stages().items()))
        key = (
            queues,
            paused,
            tuple(known),
            starter.takes_items,
            starter.takes_others,
            idle,
            command.suspects_only,
            command.kind,
            on_loop,
            slots,
        )
        picked = StageRun.objects.using(ports.using).small(("startable", key), build)
    if idle and picked and picked[0].suspect:
        return picked[:1]
    return [row for row in picked if not row.suspect]


def loop_stages(ports: Ports) -> Q:
    """Return the condition on stage runs that their stage runs on an event loop."""
    found = Q(pk__isnull=True)
    for workflow_id, stage_ids in ports.loop_stages().items():
        found |= Q(run__workflow=workflow_id, stage__in=stage_ids)
    return found


def _start(
    command: StartStages, ports: Ports, causation_id: uuid.UUID, candidates: list[StageRun]
) -> Iterator[StartStagesResult]:
    """Start all candidates in one transaction; if that fails, those of each run in one of their own."""
    if not candidates:
        return
    try:
        yield transact(ports, causation_id, lambda work: _start_together(work, command, candidates), tries=1)
        return
    except Exception as error:
        logger.debug("starting alone stages=%s error=%s", len(candidates), error)
        if is_lost(error) or isinstance(error, DatabaseUnavailable):
            connections[ports.using].close_if_unusable_or_obsolete()
    for run_id, rows in groupby(sorted(candidates, key=lambda row: row.run_id), key=lambda row: row.run_id):
        mine = list(rows)
        try:
            yield transact(ports, causation_id, lambda work: _start_together(work, command, mine), again=True)  # noqa: B023
        except (DatabaseConflict, DatabaseUnavailable, OperationalError, InterfaceError):
            raise
        except Exception:
            # It would fail again: the others go on, and it is tried again now and then.
            logger.exception("stages cannot be started run=%s", run_id)
            transact(ports, causation_id, lambda work: _defer(work, mine, UNKNOWN_STAGE_WAIT))  # noqa: B023
            yield StartStagesResult(deferred=len(mine))


def _put_off(ports: Ports, causation_id: uuid.UUID, undecided: Iterable[StageRun]) -> None:
    """Let what nobody can decide about just now (the blob store is away) hide nothing else, each run by itself."""
    for _, rows in groupby(undecided, key=lambda row: row.run_id):
        mine = list(rows)
        transact(ports, causation_id, lambda work: _defer(work, mine, UNDECIDED_WAIT))  # noqa: B023


def _defer(work: UnitOfWork, rows: Iterable[StageRun], wait: timedelta) -> None:
    for row in rows:
        run = work.lock_run(row.run_id, skip_locked=True)
        if run is not None:
            copy(row).defer(due_at=work.now + wait)


def _start_together(work: UnitOfWork, command: StartStages, candidates: list[StageRun]) -> StartStagesResult:
    using, starter = work.ports.using, command.starter
    ids = {row.run_id for row in candidates}
    # Never waiting: whoever takes keeps others from finishing meanwhile.
    locked = work.lock_hot(list(ids), with_data=True)
    runs = {run.pk: run for run in locked if run.status == RunStatus.RUNNING and run.paused_at is None}
    # Copies: a try that is rolled back must not have changed what the next one begins with.
    rows = [copy(row) for row in candidates if row.run_id in runs]
    known, unknown = _split(work.ports, runs, rows)
    for row in unknown:
        row.defer(due_at=work.now + UNKNOWN_STAGE_WAIT)
    places = Places(starter, work.ports)
    known = [row for row in known if _take(places, runs[row.run_id], row)]
    alone = starter.alone or any(row.suspect for row in known)
    mine = StageRun.objects.using(using).start_all(known, worker=starter.worker_id, at=work.now, alone=alone)
    for row in mine:
        row.config = dict(runs[row.run_id].data.config_of(row.stage))
        work.emit(runs[row.run_id], StageStarted(**stage_event(row)))
    if work.repeated and len(mine) < len(known):
        mine += _started_before(work, [row for row in known if row not in mine], starter)
    inputs = find_all_inputs(mine, runs, using)
    points.hit(points.START_IN_TX)
    return StartStagesResult(
        started=tuple(
            started_from(row, runs[row.run_id], reference) for row, reference in zip(mine, inputs, strict=True)
        ),
        dropped=len(candidates) - len(mine) - len(unknown),
        deferred=len(unknown),
    )


def _take(places: Places, run: WorkflowRun, row: StageRun) -> bool:
    return places.take(run, row.stage, row.queue, item=row.map_index != NOT_AN_ITEM)


def _split(
    ports: Ports, runs: Mapping[uuid.UUID, WorkflowRun], rows: Iterable[StageRun]
) -> tuple[list[StageRun], list[StageRun]]:
    known: list[StageRun] = []
    unknown: list[StageRun] = []
    for row in rows:
        try:
            workflow = ports.registry.get_workflow(runs[row.run_id].workflow)
        except WorkflowNotFound:
            unknown.append(row)
        else:
            (known if workflow.has_stage(row.stage) else unknown).append(row)
    return known, unknown


def _started_before(work: UnitOfWork, rows: list[StageRun], starter: Starter) -> list[StageRun]:
    """Return what an earlier try of this command has started, if its COMMIT was not answered."""
    mine = Q()
    for row in rows:
        mine |= Q(pk=row.pk, token=row.token + 1)
    found = StageRun.objects.using(work.ports.using).filter(mine, status=StageStatus.RUNNING, worker=starter.worker_id)
    return list(found)
