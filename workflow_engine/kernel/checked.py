"""A claimed completion check: what making it and storing what it found need."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from workflow_engine.definitions.results import CheckResult
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.statuses import StageStatus

from .started import InputReference, StartedStage, started_from


@dataclass(frozen=True, slots=True)
class ClaimedCheck:
    """One check of a suspended stage that this process makes; ``stage`` carries the token of the claim."""

    stage: StartedStage
    # What the stage was suspended with, as an envelope.
    state: dict[str, Any] | None
    poll_every: timedelta
    wait_until: datetime | None
    started_at: datetime | None
    polls: int
    # Failed checks in a row.
    errors: int
    # A worker died while it made a check of this stage: it runs in a process of its own.
    suspect: bool
    metrics: dict[str, float] = field(default_factory=dict)

    def row(self, using: str) -> StageRun:
        """Return the stage run as far as guarded updates need it, without reading it again."""
        row = self.stage.row(using)
        row.status, row.wait_kind, row.polls, row.check_errors = StageStatus.SUSPENDED, "poll", self.polls, self.errors
        return row


def claimed_from(row: StageRun, run: WorkflowRun, input: InputReference) -> ClaimedCheck:
    """Describe a check that was just claimed."""
    return ClaimedCheck(
        # The policy of checks counts failed checks.
        stage=replace(started_from(row, run, input), failures=row.check_errors),
        state=row.state,
        poll_every=timedelta(seconds=cast(float, row.poll_every or 0)),
        wait_until=row.wait_until,
        started_at=row.started_at,
        polls=row.polls,
        errors=row.check_errors,
        suspect=row.suspect,
        metrics=dict(row.metrics or {}),
    )


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check found. ``elapsed`` is its time on the worker's monotonic clock."""

    check: ClaimedCheck
    result: CheckResult
    elapsed: timedelta
