"""What became of attempts, and what a finish makes of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from workflow_engine.definitions.results import CheckResult, Completed, Failed, Result, StageError
from workflow_engine.models.rows import Row
from workflow_engine.statuses import AttemptKind, AttemptOutcome

from .started import StartedStage
from .unit_of_work import UnitOfWork

Kind = Literal["completed", "suspended", "retrying", "failed", "ghost"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt. ``elapsed`` is the body's time on the worker's monotonic clock."""

    stage: StartedStage
    result: Result
    elapsed: timedelta
    # The caller may go on with the stage that follows.
    may_go_on: bool = True

    @property
    def duration_ms(self) -> int:
        return round(self.elapsed.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class Finished:
    """``ghost``: the token is void, so nothing of the attempt was kept and nothing is retried because of it."""

    stage_run_id: uuid.UUID
    kind: Kind
    # What the caller runs next, in the order of the plan.
    next: tuple[StartedStage, ...] = ()
    # Another run is told something by it: whoever delivers that should look soon.
    tells: bool = False


def attempt_of(work: UnitOfWork, outcome: Outcome) -> Row:
    """Return the history row of an attempt that ended by itself, by column."""
    return history_row(work, outcome.stage, outcome.result, outcome.elapsed, AttemptKind.BODY)


def history_row(
    work: UnitOfWork, stage: StartedStage, result: Result | CheckResult, elapsed: timedelta, kind: AttemptKind
) -> Row:
    error = result.error if isinstance(result, Failed) else StageError("", "", "")
    if isinstance(result, Completed):
        ended = AttemptOutcome.COMPLETED
    elif isinstance(result, Failed):
        ended = AttemptOutcome.FAILED if result.retry_in is None else AttemptOutcome.RETRYING
    else:
        ended = AttemptOutcome.SUSPENDED
    return {
        "run_id": stage.run_id,
        "stage_run_id": stage.stage_run_id,
        "stage": stage.stage_id,
        "generation": stage.generation,
        "attempt": stage.attempt,
        "token": stage.token,
        "worker": stage.worker_id,
        "kind": kind,
        "outcome": ended,
        "started_at": work.now - elapsed,
        "finished_at": work.now,
        "error_code": error.code,
        "error_class": error.kind[:200],
        "error_message": error.message,
        "traceback": error.traceback,
    }
