"""The changes of a stage run's status, but for those that begin or end in SUSPENDED."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.db import models

from workflow_engine.statuses import StageStatus

from .base import rank


class StageChanges(models.Model):
    """Guarded changes under the run's lock.

    Each is one UPDATE guarded by the status it leaves and the token of the attempt; it returns False when somebody
    else has this stage now, and then nothing was written.
    """

    class Meta:
        abstract = True

    if TYPE_CHECKING:
        status: Any
        token: Any
        attempt: Any
        priority: Any

    def start(self, *, worker: uuid.UUID, at: Any, alone: bool) -> bool:
        """PENDING → RUNNING with the next token."""
        return self._change(
            StageStatus.PENDING,
            status=StageStatus.RUNNING,
            token=self.token + 1,
            attempt=self.attempt + 1,
            worker=worker,
            alone=alone,
            started_at=at,
            progress=None,
            unknown_since=None,
        )

    def complete(self, *, at: Any, output: dict[str, Any], metrics: dict[str, Any]) -> bool:
        """RUNNING → COMPLETED. Errors of earlier attempts are cleared: a retry that succeeds leaves none."""
        return self._change(
            StageStatus.RUNNING,
            status=StageStatus.COMPLETED,
            worker=None,
            finished_at=at,
            output=output,
            metrics=metrics or None,
            error=None,
        )

    def fail(self, *, at: Any, error: dict[str, Any], **budgets: int) -> bool:
        """RUNNING → FAILED, for good."""
        return self._change(
            StageStatus.RUNNING, status=StageStatus.FAILED, worker=None, finished_at=at, error=error, **budgets
        )

    def put_back(self, *, due_at: Any, **columns: Any) -> bool:
        """RUNNING → PENDING: a retry, a lost worker, a drain. The token is void from here on."""
        return self._change(
            StageStatus.RUNNING,
            status=StageStatus.PENDING,
            token=self.token + 1,
            worker=None,
            due_at=due_at,
            rank_at=rank(due_at, self.priority),
            **columns,
        )

    def skip(self, *, at: Any) -> bool:
        """PENDING → SKIPPED: its condition does not hold."""
        return self._change(StageStatus.PENDING, status=StageStatus.SKIPPED, finished_at=at)

    def refuse(self, *, at: Any, error: dict[str, Any]) -> bool:
        """PENDING → FAILED: it can never start."""
        return self._change(StageStatus.PENDING, status=StageStatus.FAILED, finished_at=at, error=error)

    def mark_unknown(self, since: Any) -> bool:
        """Its status stays: PENDING or SUSPENDED; no living worker has known it since then (None: one does)."""
        return self._change(StageStatus(self.status), unknown_since=since)

    def defer(self, *, due_at: Any) -> bool:
        """PENDING stays PENDING, but is not due before ``due_at``; spends nothing."""
        return self._change(StageStatus.PENDING, due_at=due_at, rank_at=rank(due_at, self.priority))

    def _change(self, leaving: StageStatus, **columns: Any) -> bool:
        rows: Any = type(self)._default_manager.using(self._state.db)
        rows = rows.filter(pk=self.pk, token=self.token, status=leaving)
        if not rows.update(**columns):
            return False
        for name, value in columns.items():
            setattr(self, name, value)
        return True
