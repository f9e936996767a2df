"""Attempts that ended without a result of their own: lost, released or cancelled."""

from __future__ import annotations

from workflow_engine.models import StageAttempt, StageRun
from workflow_engine.models.batch import columns_of
from workflow_engine.statuses import AttemptOutcome

from .unit_of_work import UnitOfWork


def lapse_of(
    work: UnitOfWork, row: StageRun, outcome: AttemptOutcome, *, code: str = "", message: str = ""
) -> StageAttempt:
    """Return the history row of an attempt that somebody else ends; made while ``row`` still names its holder."""
    return StageAttempt(
        run_id=row.run_id,
        stage_run_id=row.pk,
        stage=row.stage,
        generation=row.generation,
        attempt=row.attempt,
        token=row.token,
        worker=row.worker,
        outcome=outcome,
        started_at=row.started_at,
        finished_at=work.now,
        error_code=code,
        error_message=message,
    )


def record(work: UnitOfWork, lapses: list[StageAttempt]) -> None:
    work.insert(StageAttempt, (columns_of(lapse) for lapse in lapses))
