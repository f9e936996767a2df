"""``lease.reap_stale``: stages of dead workers come back; a body that kills its worker is given up."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_ended, stage_event
from workflow_engine.kernel.conflicts import is_away
from workflow_engine.kernel.events import StageFailed, StageRetrying
from workflow_engine.kernel.lapses import lapse_of, record
from workflow_engine.kernel.maps import item_waits
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import map_of
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import NOT_AN_ITEM, StageRun, WorkerHeartbeat
from workflow_engine.models.compiled import rows_of
from workflow_engine.statuses import AttemptOutcome, StageStatus

from .base import Command, handles

logger = logging.getLogger(__name__)
# Wait before a stage whose worker died alone with it is tried again: doubled with each crash.
CRASH_WAIT = timedelta(seconds=2)
TAKEN_LATE = "Its worker took it when its own lease was over already, and did not beat again."


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapStaleLeasesResult:
    released: tuple[uuid.UUID, ...]
    failed: tuple[uuid.UUID, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapStaleLeases(Command[ReapStaleLeasesResult]):
    """Take RUNNING stages from workers whose lease has been over for a full beat."""

    type = "lease.reap_stale"
    max: int = 100


@handles(ReapStaleLeases)
def reap_stale_leases(command: ReapStaleLeases, ports: Ports, causation_id: uuid.UUID) -> ReapStaleLeasesResult:
    done: dict[str, list[uuid.UUID]] = {"released": [], "failed": [], "kept": []}
    for pk, run_id, token in _seen(ports, command.max):
        try:
            verdict = transact(ports, causation_id, partial(_reap, pk=pk, run_id=run_id, token=token))
        except Exception as error:  # one bad row must not hide the others
            if is_away(error):
                raise
            logger.exception("reap failed stage_run=%s run=%s", pk, run_id)
            continue
        done[verdict].append(pk)
        points.hit(points.REAP_AFTER)
    return ReapStaleLeasesResult(released=tuple(done["released"]), failed=tuple(done["failed"]))


def _seen(ports: Ports, most: int) -> Sequence[Sequence[Any]]:
    """Return (id, run, token) of what is held by lost workers, before anything is locked."""
    beat = ports.limits.beat_seconds

    def build() -> Any:
        return _orphans(ports).order_by("id").values_list("id", "run_id", "token")[:most]

    return rows_of(ports.using, ("orphans", most, beat), build, keep=not ports.is_frozen)


def _orphans(ports: Ports) -> Any:
    grace = timedelta(seconds=ports.limits.beat_seconds)
    return StageRun.objects.using(ports.using).orphaned(ports.clock.db_now() - grace)


def _reap(work: UnitOfWork, *, pk: uuid.UUID, run_id: uuid.UUID, token: int) -> Literal["released", "failed", "kept"]:
    # Not waiting for a run that somebody holds: the next tick asks again, and the others come back now.
    run = work.lock_run(run_id, skip_locked=True)
    # Asked again under the lock: the worker may have come back, or finished.
    row = _orphans(work.ports).filter(pk=pk, token=token).first()
    if run is None or row is None:
        return "kept"
    if row.status == StageStatus.SUSPENDED:
        return _free_check(work, row)
    facts, worker = stage_event(row), row.worker
    # A body in a process of its own has not killed the worker.
    expands = row.map_index == NOT_AN_ITEM and map_of(run.plan, row.group_number, row.stage) is not None
    isolated = not expands and _is_isolated(work, run.workflow, row.stage)
    late = _was_taken_late(work, row)
    crashes = row.crashes + 1 if row.alone and not isolated and not late else row.crashes
    error = {"code": "WORKER_LOST", "class": "", "message": TAKEN_LATE if late else _message(row, crashes)}
    lapse = lapse_of(work, row, AttemptOutcome.LOST, code=error["code"], message=error["message"])
    given_up = crashes >= work.ports.limits.max_crashes
    if given_up:
        settled = row.fail(at=work.now, error=error, crashes=crashes)
    else:
        wait = CRASH_WAIT * 2**crashes
        settled = row.put_back(due_at=work.now + wait, crashes=crashes, suspect=row.suspect if late else not isolated)
    if not settled:
        return "kept"
    record(work, [lapse])
    if given_up:
        work.emit(run, StageFailed(**facts, error=error))
        stage_ended(work, run, row)
    else:
        work.emit(run, StageRetrying(**facts, reason="worker_lost", delay_seconds=wait.total_seconds()))
        work.ring(row)
        item_waits(work, run, row)
    logger.warning(
        "stage taken from a lost worker run=%s stage=%s worker=%s crashes=%s", run.pk, row.stage, worker, crashes
    )
    points.hit(points.REAP_IN_TX)
    return "failed" if given_up else "released"


def _was_taken_late(work: UnitOfWork, row: StageRun) -> bool:
    """Whether its worker took it when its lease was over: frozen between its last look and the take, not crashed."""
    if row.worker is None or row.started_at is None:
        return False
    workers = WorkerHeartbeat.objects.using(work.ports.using)
    return workers.filter(pk=row.worker, lease_until__lte=row.started_at).exists()


def _free_check(work: UnitOfWork, row: StageRun) -> Literal["released", "kept"]:
    """Let others check a suspended stage; in a process of its own, since this check may have killed the worker."""
    if not row.check_again(wake_at=work.now, suspect=True):
        return "kept"
    logger.warning("check taken from a lost worker run=%s stage=%s", row.run_id, row.stage)
    points.hit(points.REAP_IN_TX)
    return "released"


def _is_isolated(work: UnitOfWork, workflow_id: str, stage_id: str) -> bool:
    for workflow in work.ports.registry.registered_workflows():
        if workflow.id == workflow_id and workflow.has_stage(stage_id):
            return workflow.get_stage(stage_id).isolation == "process"
    return False


def _message(row: StageRun, crashes: int) -> str:
    if row.alone:
        return f"Its worker stopped beating while it ran this stage alone ({crashes} times so far)."
    return "Its worker stopped beating while it ran this stage among others; it runs alone from now on."
