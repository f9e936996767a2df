"""``run.claim_pending``: pending runs begin; the caller may start their first stages in the same transaction."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace

from django.db import DataError, Error, IntegrityError

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Starter, open_group
from workflow_engine.kernel.events import RunFailed, RunStarted
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import InputReference, StartedStage, plan_group, started_from
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.base import lock_rows
from workflow_engine.statuses import RunStatus, StageStatus

from .base import Command, handles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimPendingRunsResult:
    claimed: tuple[uuid.UUID, ...]
    started: tuple[StartedStage, ...]
    # Runs that can never begin; they are FAILED.
    failed: tuple[uuid.UUID, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimPendingRuns(Command[ClaimPendingRunsResult]):
    """Claim due, unpaused runs of known workflows: by priority (a point is worth five minutes of age), then age.

    Args:
        run_id: claim only this run.
        starter: what the caller can start at once; None: first stages wait for a worker.
    """

    type = "run.claim_pending"
    max_claims: int = 10
    run_id: uuid.UUID | None = None
    starter: Starter | None = None


@handles(ClaimPendingRuns)
def claim_pending_runs(command: ClaimPendingRuns, ports: Ports, causation_id: uuid.UUID) -> ClaimPendingRunsResult:
    claimed: list[uuid.UUID] = []
    started: list[StartedStage] = []
    failed: list[uuid.UUID] = []
    for _ in range(command.max_claims):
        if command.starter is not None and len(started) >= command.starter.slots:
            break
        try:
            outcome = _claim_one(command, ports, causation_id, len(started))
        except (WorkflowEngineError, Error) as error:
            if not claimed:
                raise
            # What was committed runs here; nobody else would know.
            logger.warning("claiming ended early claimed=%s error=%s", len(claimed), error)
            break
        if outcome is None:
            break
        run_id, stages, ok = outcome
        (claimed if ok else failed).append(run_id)
        started += stages
        points.hit(points.CLAIM_AFTER)
    return ClaimPendingRunsResult(claimed=tuple(claimed), started=tuple(started), failed=tuple(failed))


def _claim_one(
    command: ClaimPendingRuns, ports: Ports, causation_id: uuid.UUID, taken: int
) -> tuple[uuid.UUID, list[StartedStage], bool] | None:
    """Claim the next run in a transaction of its own, so that a bad one stops nobody else."""
    starter = command.starter and replace(command.starter, slots=command.starter.slots - taken)
    seen: list[uuid.UUID] = []

    def step(work: UnitOfWork, leftovers: bool = False) -> tuple[uuid.UUID, list[StartedStage], bool] | None:
        if work.repeated and seen and (mine := _claimed_before(work, seen[0], starter)) is not None:
            return mine
        run = _lock_next(work, command.run_id or (seen[0] if seen else None))
        if run is None:
            return None
        seen[:] = [run.pk]
        if not plan_group(run, 1):
            return run.pk, [], _refuse(work, run, "EMPTY_PLAN", "The run's plan has no stages.")
        work.change_run(run, RunStatus.RUNNING, leaving=(RunStatus.PENDING,), started_at=work.now)
        work.emit(run, RunStarted(workflow_id=run.workflow))
        reference = InputReference({"input": run.data.input})
        stages = open_group(work, run, 1, starter, input=reference, leftovers=leftovers)
        points.hit(points.CLAIM_IN_TX)
        return run.pk, stages, True

    try:
        return transact(ports, causation_id, step)
    except IntegrityError:
        # Rows of an interrupted claim: leave them as they are, add what is missing.
        return transact(ports, causation_id, lambda work: step(work, leftovers=True))
    except (DataError, ValueError, TypeError, LookupError, AttributeError, WorkflowEngineError) as error:
        # Deterministic: it would fail again. Infrastructure errors have raised and leave the run PENDING.
        if not seen or (isinstance(error, WorkflowEngineError) and error.code.startswith("DATABASE_")):
            raise
        logger.exception("claim failed run=%s", seen[0])
        message = f"{type(error).__name__}: {error}"[:2000]
        return transact(ports, causation_id, lambda work: _fail_claim(work, seen[0], message))


def _claimed_before(
    work: UnitOfWork, run_id: uuid.UUID, starter: Starter | None
) -> tuple[uuid.UUID, list[StartedStage], bool] | None:
    """Return what an earlier try of this command has claimed, if its COMMIT landed although nobody was told."""
    run = work.lock_run(run_id)
    using, mine = work.ports.using, {"run": run_id, "type": RunStarted.type, "causation_id": work.causation_id}
    if run is None or not OutboxEvent.objects.using(using).filter(**mine).exists():
        return None
    worker_id = starter.worker_id if starter else None
    rows = StageRun.objects.using(using).filter(run=run, status=StageStatus.RUNNING, worker=worker_id)
    reference = InputReference({"input": run.data.input})
    return run_id, [started_from(row, run, reference) for row in rows], True


def _lock_next(work: UnitOfWork, run_id: uuid.UUID | None) -> WorkflowRun | None:
    rows = WorkflowRun.objects.using(work.ports.using).claimable(work.now, work.ports.known_workflows())
    if run_id is not None:
        rows = rows.filter(pk=run_id)
    run = lock_rows(rows.select_related("data"), skip_locked=True).first()
    if run is not None:
        work.hold(run)
    return run


def _fail_claim(work: UnitOfWork, run_id: uuid.UUID, message: str) -> tuple[uuid.UUID, list[StartedStage], bool]:
    run = work.lock_run(run_id)
    if run is not None and run.status == RunStatus.PENDING:
        _refuse(work, run, "CLAIM_FAILED", message)
    return run_id, [], False


def _refuse(work: UnitOfWork, run: WorkflowRun, code: str, message: str) -> bool:
    error = {"code": code, "class": "", "message": message, "stage": None}
    work.change_run(run, RunStatus.FAILED, leaving=(RunStatus.PENDING,), finished_at=work.now, error=error)
    work.emit(run, RunFailed(workflow_id=run.workflow, error=error))
    return False
