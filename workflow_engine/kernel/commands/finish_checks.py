"""``stage.finish_checks``: what completion checks have found is stored, and runs advance, each in one transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from workflow_engine.definitions.results import Completed, Failed, StageError, StillPending
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_ended, stage_event
from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.events import StageCompleted, StageFailed
from workflow_engine.kernel.finished import Finished, Kind, history_row
from workflow_engine.kernel.notes import insert_notes
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.statuses import AttemptKind, AttemptOutcome, StageStatus

from .base import Command, handles
from .wake_suspended_stages import EXPIRED


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishChecksResult:
    # ``suspended``: it is checked again later, ``retrying``: after an error.
    finished: tuple[Finished, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishChecks(Command[FinishChecksResult]):
    """Store what checks have found, in this order: failure, ready, deadline, check again.

    An outcome whose token is void is a ghost: the run was cancelled, or the claim was taken away.

    Args:
        again: an earlier command with the same causation id may have been committed without an answer.
    """

    type = "stage.finish_checks"
    outcomes: tuple[CheckOutcome, ...]
    again: bool = False


@handles(FinishChecks)
def finish_checks(command: FinishChecks, ports: Ports, causation_id: uuid.UUID) -> FinishChecksResult:
    finished = []
    for outcome in command.outcomes:
        points.hit(points.POLL_CHECKED)
        step = partial(_finish, outcome=outcome)
        finished.append(transact(ports, causation_id, step, again=command.again))
        points.hit(points.POLL_AFTER)
    return FinishChecksResult(finished=tuple(finished))


def _finish(work: UnitOfWork, outcome: CheckOutcome) -> Finished:
    check, result = outcome.check, outcome.result
    stage = check.stage
    run = work.lock_run(stage.run_id)
    if run is None:
        return Finished(stage.stage_run_id, "ghost")
    row = check.row(work.ports.using)
    facts = stage_event(row)
    result = _by_deadline(work, check, result)
    if not _store(work, row, check, result):
        return _ghost_or_mine(work, stage.stage_run_id, stage.token)
    if not isinstance(result, StillPending):
        history = history_row(work, stage, result, outcome.elapsed, AttemptKind.CHECK)
        work.insert(StageAttempt, [history])
    insert_notes(work, run, row, result.notes, of_check=True)
    kind = _tell(work, run, row, check, result, facts)
    points.hit(points.POLL_IN_TX)
    return Finished(row.pk, kind)


def _by_deadline(
    work: UnitOfWork, check: ClaimedCheck, result: Completed | Failed | StillPending
) -> Completed | Failed | StillPending:
    """Return the result, or a final failure if the work was to be done by now and is not."""
    is_over = check.wait_until is not None and check.wait_until <= work.now
    if not is_over or isinstance(result, Completed) or (isinstance(result, Failed) and result.retry_in is None):
        return result
    message = f"The work was not done until {check.wait_until:%Y-%m-%d %H:%M:%S} UTC."
    if isinstance(result, Failed):
        message += f" The last check failed: {result.error.kind}: {result.error.message}"
    return Failed(StageError(EXPIRED, "TimeoutError", message), None, result.notes)


def _store(work: UnitOfWork, row: StageRun, check: ClaimedCheck, result: Completed | Failed | StillPending) -> bool:
    now = work.now
    if isinstance(result, Completed):
        metrics = {**check.metrics, **result.notes.metrics}
        return row.complete_suspended(at=now, output=result.output, metrics=metrics)
    if isinstance(result, StillPending):
        wait = check.poll_every if result.next_check_in is None else result.next_check_in
        return row.check_again(wake_at=_not_after(check, now + wait), polls=check.polls + 1, check_errors=0, error=None)
    error, errors = result.error.as_json(), check.errors + 1
    if result.retry_in is None:
        return row.fail_suspended(at=now, error=error, polls=check.polls + 1, check_errors=errors)
    wake_at = _not_after(check, now + result.retry_in)
    return row.check_again(wake_at=wake_at, polls=check.polls + 1, check_errors=errors, error=error)


def _not_after(check: ClaimedCheck, wake_at: Any) -> Any:
    """At the deadline there is a last check."""
    return wake_at if check.wait_until is None else min(wake_at, check.wait_until)


def _tell(
    work: UnitOfWork,
    run: WorkflowRun,
    row: StageRun,
    check: ClaimedCheck,
    result: Completed | Failed | StillPending,
    facts: dict[str, Any],
) -> Kind:
    if isinstance(result, Completed):
        lasted = work.now - check.started_at if check.started_at else timedelta(0)
        work.emit(run, StageCompleted(**facts, duration_ms=round(lasted.total_seconds() * 1000)))
        work.add_to_totals(run, row.metrics or {})
        stage_ended(work, run, row)
        return "completed"
    if isinstance(result, Failed) and result.retry_in is None:
        work.emit(run, StageFailed(**facts, error=result.error.as_json()))
        stage_ended(work, run, row)
        return "failed"
    return "suspended" if isinstance(result, StillPending) else "retrying"


def _ghost_or_mine(work: UnitOfWork, stage_run_id: uuid.UUID, token: int) -> Finished:
    """Tell a void token from a COMMIT of our own whose answer was lost."""
    if not work.repeated:
        return Finished(stage_run_id, "ghost")
    attempts = StageAttempt.objects.using(work.ports.using).filter(
        stage_run=stage_run_id, token=token, kind=AttemptKind.CHECK
    )
    kinds: dict[str, Kind] = {
        AttemptOutcome.COMPLETED: "completed",
        AttemptOutcome.FAILED: "failed",
        AttemptOutcome.RETRYING: "retrying",
    }
    outcome = attempts.values_list("outcome", flat=True).first()
    if outcome is not None:
        return Finished(stage_run_id, kinds[outcome])
    # Checks that find nothing leave no history: the token that follows ours is the mark of it.
    rows = StageRun.objects.using(work.ports.using).filter(
        pk=stage_run_id, token=token + 1, status=StageStatus.SUSPENDED, worker=None
    )
    return Finished(stage_run_id, "suspended" if rows.exists() else "ghost")
