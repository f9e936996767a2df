"""``run.claim_pending``: pending runs begin; the caller may start their first stages in the same transaction."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db import Error, IntegrityError, InterfaceError, OperationalError

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, WorkflowEngineError
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Places, Starter, fail_run, open_group
from workflow_engine.kernel.events import RunStarted
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import InputReference, StartedStage, plan_group, started_from
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.runs import family
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
    """Claim due runs of known workflows, neither paused: by priority (a point is worth five minutes of age), then age.

    Args:
        run_id: claim only this run, and those that it has started.
        workflows: only runs of these; None: of all that are known here.
        starter: what the caller can start at once; None: first stages wait for a worker.
    """

    type = "run.claim_pending"
    max_claims: int = 10
    run_id: uuid.UUID | None = None
    workflows: tuple[str, ...] | None = None
    starter: Starter | None = None


@handles(ClaimPendingRuns)
def claim_pending_runs(command: ClaimPendingRuns, ports: Ports, causation_id: uuid.UUID) -> ClaimPendingRunsResult:
    claims = _Claims()
    seen: list[uuid.UUID] = []
    try:
        claims.add(transact(ports, causation_id, lambda work: _claim_together(work, command, seen), tries=1))
    except Exception as error:
        if not seen:
            raise
        logger.debug("claiming alone runs=%s error=%s", len(seen), error)
        _claim_each(claims, seen, command, ports, causation_id)
    points.hit(points.CLAIM_AFTER)
    return ClaimPendingRunsResult(
        claimed=tuple(claims.claimed), started=tuple(claims.started), failed=tuple(claims.failed)
    )


def _claim_each(
    claims: _Claims, runs: list[uuid.UUID], command: ClaimPendingRuns, ports: Ports, causation_id: uuid.UUID
) -> None:
    for run_id in runs:
        try:
            claims.add([_claim_alone(command, ports, causation_id, run_id, len(claims.started))])
        except (WorkflowEngineError, Error) as error:
            if not claims.claimed:
                raise
            # What was started before runs here; nobody else would know.
            logger.warning("claiming ended early claimed=%s error=%s", len(claims.claimed), error)
            break


@dataclass(frozen=True, slots=True)
class _Claim:
    run_id: uuid.UUID
    started: Sequence[StartedStage] = ()
    failed: bool = False
    # Somebody else has it now.
    missed: bool = False


@dataclass(slots=True)
class _Claims:
    claimed: list[uuid.UUID] = field(default_factory=list)
    started: list[StartedStage] = field(default_factory=list)
    failed: list[uuid.UUID] = field(default_factory=list)

    def add(self, claims: Iterable[_Claim]) -> None:
        for claim in claims:
            if not claim.missed:
                (self.failed if claim.failed else self.claimed).append(claim.run_id)
                self.started += claim.started


def _claim_together(work: UnitOfWork, command: ClaimPendingRuns, seen: list[uuid.UUID]) -> list[_Claim]:
    """Claim the next runs in one transaction; their ids are left in ``seen`` in case it fails."""
    most = command.max_claims
    if command.starter is not None:
        most = min(most, command.starter.room_for_runs)
    places = None if command.starter is None else Places(command.starter, work.ports)
    known = _takable(command, work.ports)
    if command.run_id is None:
        runs = work.lock_claimable(known, most)
    else:
        rows = WorkflowRun.objects.using(work.ports.using).claimable(work.now, known)
        wanted = rows.filter(family("", command.run_id))
        runs = work.lock_runs(wanted.select_related("data")[:most])
    seen += [run.pk for run in runs]
    claims = [_begin(work, run, places) for run in runs]
    points.hit(points.CLAIM_IN_TX)
    return claims


def _takable(command: ClaimPendingRuns, ports: Ports) -> list[str]:
    takable = ports.takable_workflows()
    if command.workflows is None:
        return takable
    return [workflow_id for workflow_id in command.workflows if workflow_id in takable]


def _begin(work: UnitOfWork, run: WorkflowRun, places: Places | None, *, leftovers: bool = False) -> _Claim:
    if not plan_group(run, 1):
        return _refuse(work, run, "EMPTY_PLAN", "The run's plan has no stages.")
    timeout = run.plan.get("timeout")
    deadline = {} if timeout is None else {"deadline_at": work.now + timedelta(seconds=timeout)}
    work.change_run(run, RunStatus.RUNNING, leaving=(RunStatus.PENDING,), started_at=work.now, **deadline)
    work.emit(run, RunStarted(workflow_id=run.workflow))
    reference = InputReference({"input": run.data.input})
    return _Claim(run.pk, open_group(work, run, 1, places, input=reference, leftovers=leftovers))


def _claim_alone(
    command: ClaimPendingRuns, ports: Ports, causation_id: uuid.UUID, run_id: uuid.UUID, taken: int
) -> _Claim:
    """Claim one run in a transaction of its own, so that a bad one stops nobody else."""
    starter = command.starter and replace(command.starter, slots=max(command.starter.slots - taken, 0))

    def step(work: UnitOfWork, leftovers: bool = False) -> _Claim:
        if (mine := _claimed_before(work, run_id, starter)) is not None:
            return mine
        rows = WorkflowRun.objects.using(work.ports.using).claimable(work.now, work.ports.takable_workflows())
        for run in work.lock_runs(rows.filter(pk=run_id).select_related("data")):
            claim = _begin(work, run, None if starter is None else Places(starter, ports), leftovers=leftovers)
            points.hit(points.CLAIM_IN_TX)
            return claim
        return _Claim(run_id, missed=True)

    try:
        try:
            return transact(ports, causation_id, step)
        except IntegrityError:
            # Rows of an interrupted claim: leave them as they are, add what is missing.
            return transact(ports, causation_id, lambda work: step(work, leftovers=True))
    except (DatabaseConflict, DatabaseUnavailable, OperationalError, InterfaceError):
        # The infrastructure: the run stays PENDING.
        raise
    except Exception as error:
        # Deterministic: it would fail again.
        logger.exception("claim failed run=%s", run_id)
        message = f"{type(error).__name__}: {error}"[:2000]
        return transact(ports, causation_id, lambda work: _fail_claim(work, run_id, message))


def _claimed_before(work: UnitOfWork, run_id: uuid.UUID, starter: Starter | None) -> _Claim | None:
    """Return what an earlier try of this command has claimed, if its COMMIT landed although nobody was told."""
    run = work.lock_run(run_id, skip_locked=True)
    using, mine = work.ports.using, {"run": run_id, "type": RunStarted.type, "causation_id": work.causation_id}
    if run is None or not OutboxEvent.objects.using(using).filter(**mine).exists():
        return None
    worker_id = starter.worker_id if starter else None
    rows = StageRun.objects.using(using).filter(run=run, status=StageStatus.RUNNING, worker=worker_id)
    reference = InputReference({"input": run.data.input})
    return _Claim(run_id, [started_from(row, run, reference) for row in rows])


def _fail_claim(work: UnitOfWork, run_id: uuid.UUID, message: str) -> _Claim:
    run = work.lock_run(run_id)
    if run is not None and run.status == RunStatus.PENDING:
        return _refuse(work, run, "CLAIM_FAILED", message)
    return _Claim(run_id, missed=True)


def _refuse(work: UnitOfWork, run: WorkflowRun, code: str, message: str) -> _Claim:
    error = {"code": code, "class": "", "message": message, "stage": None}
    fail_run(work, run, error, leaving=RunStatus.PENDING)
    return _Claim(run.pk, failed=True)
