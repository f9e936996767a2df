"""What an attempt's result makes of its stage, under the lock of its run: stored, told, and what follows."""

from __future__ import annotations

from workflow_engine.definitions.results import Completed, Expanded, Suspended
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun

from . import points
from .advance import stage_ended
from .effects import call_effects
from .events import StageCompleted, StageFailed, StageRetrying
from .finished import Finished, Outcome, attempt_of
from .maps import item_waits, open_map
from .notes import insert_notes
from .places import Places
from .started import stage_event
from .suspending import ITEMS, suspend, tell_suspended
from .together import complete
from .unit_of_work import UnitOfWork


def finish_one(work: UnitOfWork, run: WorkflowRun, outcome: Outcome, places: Places | None) -> Finished | None:
    """Finish an attempt of a run whose lock is held; None: its token is void.

    ``places``: what the caller can go on with.
    """
    row = outcome.stage.row(work.ports.using)
    if not _store(work, row, outcome):
        return None
    call_effects(work.ports, outcome.result)
    work.insert(StageAttempt, [attempt_of(work, outcome)])
    insert_notes(work, run, row, outcome.result.notes)
    return _tell(work, run, row, outcome, places)


def _store(work: UnitOfWork, row: StageRun, outcome: Outcome) -> bool:
    result = outcome.result
    if isinstance(result, Completed):
        return row.complete(at=work.now, output=result.output, metrics=result.notes.metrics)
    if isinstance(result, Suspended):
        return suspend(work, row, result.suspension, result.notes.metrics)
    if isinstance(result, Expanded):
        return suspend(work, row, ITEMS, {})
    error = result.error.as_json()
    if result.retry_in is None:
        return row.fail(at=work.now, error=error, failures=row.failures + 1)
    return row.put_back(due_at=work.now + result.retry_in, error=error, failures=row.failures + 1)


def _tell(work: UnitOfWork, run: WorkflowRun, row: StageRun, outcome: Outcome, places: Places | None) -> Finished:
    result = outcome.result
    if isinstance(result, Completed):
        work.emit(run, StageCompleted(**stage_event(row), duration_ms=outcome.duration_ms))
        work.add_to_totals(run, result.notes.metrics)
        return Finished(row.pk, "completed", tuple(complete(work, run, outcome, places)))
    if isinstance(result, Suspended):
        tell_suspended(work, run, row, result.suspension)
        item_waits(work, run, row)
        return Finished(row.pk, "suspended")
    if isinstance(result, Expanded):
        tell_suspended(work, run, row, ITEMS)
        started = open_map(work, run, row, result, places)
        points.hit(points.MAP_IN_TX)
        return Finished(row.pk, "suspended", tuple(started))
    if result.retry_in is not None:
        delay = result.retry_in.total_seconds()
        # The event speaks of the attempt that ended: the row's token has moved on.
        facts = {**stage_event(row), "token": outcome.stage.token}
        work.emit(run, StageRetrying(**facts, delay_seconds=delay, error=result.error.as_json()))
        work.ring(row)
        item_waits(work, run, row)
        return Finished(row.pk, "retrying")
    work.emit(run, StageFailed(**stage_event(row), error=result.error.as_json()))
    return Finished(row.pk, "failed", tuple(stage_ended(work, run, row, places)))
