"""``bulk.carry_out``: the next runs of the bulk operations that are under way, each in a transaction of its own.

Any number of processes do this at once. They take targets by pages, so that they do not meet; what keeps a run from
being changed twice is that its change and its target's outcome are one transaction, and an outcome is written once.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import DataError, Error, IntegrityError

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable, RunNotFound, WorkflowEngineError
from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import BulkOperation, BulkTarget, WorkflowRun
from workflow_engine.models.base import lock_rows
from workflow_engine.statuses import OPEN_RUN, BulkKind, BulkStatus, TargetOutcome

from .base import Command, handles
from .cancel_run import CancelRun, cancel_in
from .pause_run import PauseRun, PauseRunResult, pause_in
from .rerun_from import RerunFrom, rerun_with
from .resume_run import ResumeRun, ResumeRunResult, resume_in

logger = logging.getLogger(__name__)
# So many operations go on side by side; the others wait for one of them to end.
MOST_OPERATIONS = 20
# A run that somebody holds is tried again after this.
AGAIN = timedelta(seconds=1)
# Progress is counted this often at most: another second for every 100,000 runs.
COUNT_EVERY, RUNS_PER_SECOND = timedelta(seconds=1), 100_000
LONGEST_MESSAGE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class CarryOutBulkResult:
    # How many runs are done with.
    done: int = 0
    # Whether more could be done at once.
    is_full: bool = False
    # How many operations go on.
    under_way: int = 0
    # Those that have ended here.
    ended: tuple[uuid.UUID, ...] = ()
    # Runs that somebody holds; they are tried again.
    held: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CarryOutBulk(Command[CarryOutBulkResult]):
    """Carry bulk operations on by at most ``max`` runs, of all operations in turn."""

    type = "bulk.carry_out"
    max: int = 100


@dataclass(frozen=True, slots=True)
class _Target:
    id: int
    run_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class _Done:
    """What a change has come to; the message says why nothing changed."""

    changed: bool
    message: str = ""


_Step = Callable[[UnitOfWork], _Done]


class _Settled(Exception):
    """Somebody else was quicker, or the operation was cancelled: nothing of this is kept."""


@handles(CarryOutBulk)
def carry_out_bulk(command: CarryOutBulk, ports: Ports, causation_id: uuid.UUID) -> CarryOutBulkResult:
    under_way = list(BulkOperation.objects.using(ports.using).open().order_by("id")[:MOST_OPERATIONS])
    done, held, is_full, ended = 0, 0, False, []
    for operation in under_way:
        most = max(1, command.max // len(under_way))
        targets = _take(ports, operation, most)
        is_full = is_full or len(targets) == most
        for target in targets:
            outcome = _carry_out(ports, operation, target)
            done += outcome is not None and outcome != TargetOutcome.OPEN
            held += outcome == TargetOutcome.OPEN
        if _look_on(ports, operation, last=len(targets) < most):
            ended.append(operation.pk)
    left = len(under_way) - len(ended)
    return CarryOutBulkResult(done=done, is_full=is_full, under_way=left, ended=tuple(ended), held=held)


def _take(ports: Ports, operation: BulkOperation, most: int) -> list[_Target]:
    """Take the next targets that nobody is at; others leave them alone as long as a worker's lease lasts."""

    def step(work: UnitOfWork) -> list[_Target]:
        rows = BulkTarget.objects.using(ports.using)
        free = lock_rows(rows.free(operation.pk, work.now), skip_locked=True)
        taken = [_Target(*found) for found in free.values_list("pk", "run_id")[:most]]
        if taken:
            rows.take([target.id for target in taken], work.now + timedelta(seconds=ports.limits.lease_seconds))
        if operation.status == BulkStatus.PENDING:
            BulkOperation.objects.using(ports.using).filter(pk=operation.pk).begin(work.now)
        return taken

    if not BulkTarget.objects.using(ports.using).free(operation.pk, ports.clock.db_now()).exists():
        return []
    taken = transact(ports, operation.pk, step)
    points.hit(points.BULK_TAKEN)
    return taken


def _carry_out(ports: Ports, operation: BulkOperation, target: _Target) -> TargetOutcome | None:
    """Change one run; return what is written of it: OPEN if somebody holds it, None if it was done elsewhere."""
    try:
        outcome = _change(ports, operation, target)
    except _Settled:
        return None
    except DatabaseUnavailable:
        raise
    except DatabaseConflict:
        # It lost against others again and again; its turn comes once more when it is no longer taken.
        return TargetOutcome.OPEN
    except (DataError, IntegrityError, WorkflowEngineError) as error:
        outcome = _fail(ports, target, str(error))
    except Error:
        raise
    # A config is validated by code of the user's.
    except Exception as error:
        logger.warning(
            "bulk operation failed for a run operation=%s run=%s", operation.pk, target.run_id, exc_info=True
        )
        outcome = _fail(ports, target, f"{type(error).__name__}: {error}")
    points.hit(points.BULK_AFTER)
    return outcome


def _change(ports: Ports, operation: BulkOperation, target: _Target) -> TargetOutcome:
    def once(step: _Step) -> TargetOutcome:
        return transact(ports, operation.pk, lambda work: _in_one(work, target, step))

    if operation.kind != BulkKind.RERUN:
        return once(lambda work: _change_in(work, operation, target.run_id))
    said = operation.arguments
    command = RerunFrom(run_id=target.run_id, stage_id=said["stage_id"], config=said["config"], actor=operation.actor)

    def again(step: Callable[[UnitOfWork], object]) -> TargetOutcome:
        def rerun(work: UnitOfWork) -> _Done:
            step(work)
            return _Done(True)

        return once(rerun)

    return rerun_with(command, ports, again)


def _change_in(work: UnitOfWork, operation: BulkOperation, run_id: uuid.UUID) -> _Done:
    """Cancel, pause or resume a run whose lock is held."""
    reason, actor = operation.arguments["reason"], operation.actor
    if operation.kind == BulkKind.CANCEL:
        cancelled = cancel_in(work, CancelRun(run_id=run_id, reason=reason, actor=actor), work.causation_id)
        if cancelled is None:
            raise RunNotFound(run_id)
        return _Done(cancelled.cancelled, "" if cancelled.cancelled else _ended(cancelled.status))
    result: PauseRunResult | ResumeRunResult | None
    if operation.kind == BulkKind.PAUSE:
        result, why = pause_in(work, PauseRun(run_id=run_id, reason=reason, actor=actor)), "It was paused already."
    else:
        result, why = resume_in(work, ResumeRun(run_id=run_id, reason=reason, actor=actor)), "It was not paused."
    if result is None:
        raise RunNotFound(run_id)
    if result.changed:
        return _Done(True)
    return _Done(False, why if result.status in OPEN_RUN else _ended(result.status))


def _ended(status: str) -> str:
    return f"It had already ended: it is {status}."


def _in_one(work: UnitOfWork, target: _Target, step: _Step) -> TargetOutcome:
    rows = BulkTarget.objects.using(work.ports.using)
    # Not waited for: a caller of somebody's may hold the run for long, and others can be changed meanwhile.
    if work.lock_run(target.run_id, skip_locked=True) is None:
        if not WorkflowRun.objects.using(work.ports.using).filter(pk=target.run_id).exists():
            raise RunNotFound(target.run_id)
        rows.take([target.id], work.now + AGAIN)
        return TargetOutcome.OPEN
    done = step(work)
    outcome = TargetOutcome.CHANGED if done.changed else TargetOutcome.UNCHANGED
    if not rows.settle(target.id, outcome, done.message):
        raise _Settled
    points.hit(points.BULK_IN_TX)
    return outcome


def _fail(ports: Ports, target: _Target, message: str) -> TargetOutcome:
    text = scrub(message)[:LONGEST_MESSAGE]
    rows = BulkTarget.objects.using(ports.using)
    transact(ports, uuid.uuid4(), lambda work: rows.settle(target.id, TargetOutcome.FAILED, text))
    return TargetOutcome.FAILED


def _look_on(ports: Ports, operation: BulkOperation, *, last: bool) -> bool:
    """Count how far an operation has come, if that was a while ago; end it, and return True, if nothing is left."""
    if last and not BulkTarget.objects.using(ports.using).open().filter(operation=operation.pk).exists():
        return transact(ports, operation.pk, lambda work: _end(work, operation))
    transact(ports, operation.pk, lambda work: _count(work, operation))
    return False


def _end(work: UnitOfWork, operation: BulkOperation) -> bool:
    rows = BulkOperation.objects.using(work.ports.using).filter(pk=operation.pk)
    if not rows.end(BulkStatus.COMPLETED, work.now):
        return False
    operation.count()
    points.hit(points.BULK_END_IN_TX)
    return True


def _count(work: UnitOfWork, operation: BulkOperation) -> None:
    every = COUNT_EVERY + timedelta(seconds=operation.total / RUNS_PER_SECOND)
    rows = BulkOperation.objects.using(work.ports.using).filter(pk=operation.pk)
    # The row's lock is held from here on, so that counts never go back.
    if rows.mark_counted(work.now, before=work.now - every):
        operation.count()
