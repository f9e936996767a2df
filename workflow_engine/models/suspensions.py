"""Suspended stages: the changes into, within and out of that status, and which of them are due for what."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q

from workflow_engine.statuses import RunStatus, StageStatus, WaitKind

from .base import constant, lock_rows, rank

if TYPE_CHECKING:
    from .stage_runs import StageRun

_NO_WAIT: dict[str, Any] = {
    "wait_kind": "",
    "wait_name": "",
    "suspended_at": None,
    "wait_until": None,
    "wake_at": None,
    "state": None,
    "poll_every": None,
    "unknown_since": None,
}


class SuspendedRows(models.QuerySet["StageRun"]):
    """Reads of suspended stages, and the claim of those whose completion is to be checked."""

    def suspended(self) -> SuspendedRows:
        return self.filter(status=constant(StageStatus.SUSPENDED))

    def waking(self, now: Any, known: Mapping[str, Sequence[str]] | None = None) -> SuspendedRows:
        """Suspended stages whose timer or deadline for an answer is over, the longest waiting first.

        Args:
            known: deadlines only of these stages, by workflow: their code says what follows; None: of all.
        """
        condition = Q(wait_kind=WaitKind.TIMER)
        if known is None:
            condition |= Q(wait_kind=WaitKind.ANSWER)
        else:
            for workflow, stages in known.items():
                condition |= Q(wait_kind=WaitKind.ANSWER, run__workflow=workflow, stage__in=stages)
        # Said again, so that checks that are due are left out without a look at their runs.
        kinds = (WaitKind.TIMER, WaitKind.ANSWER)
        return self.suspended().filter(condition, wait_kind__in=kinds, wake_at__lte=now).order_by("wake_at", "id")

    def asking_for_code(self, now: Any) -> SuspendedRows:
        """Suspended stages that are due for what only their own code can do, of whatever workflow."""
        kinds = (WaitKind.ANSWER, WaitKind.POLL)
        rows = self.suspended().filter(wait_kind__in=kinds, wake_at__lte=now, worker__isnull=True)
        return rows.order_by("wake_at", "id")

    def checkable(
        self,
        now: Any,
        queues: Sequence[str] | None,
        workflows: Sequence[str],
        *,
        paused: frozenset[str] = frozenset(),
    ) -> SuspendedRows:
        """Suspended stages whose next completion check is due and that nobody checks, the longest waiting first;
        none in ``paused`` queues."""
        rows = self.suspended().filter(wait_kind=WaitKind.POLL, wake_at__lte=now, worker__isnull=True)
        rows = rows.filter(run__status=RunStatus.RUNNING, run__paused_at__isnull=True, run__workflow__in=workflows)
        if queues is not None:
            rows = rows.filter(queue__in=queues)
        if paused:
            rows = rows.exclude(queue__in=sorted(paused))
        return rows.order_by("wake_at", "id")

    def lock_checks(self, due: SuspendedRows, most: int) -> list[StageRun]:
        """Lock up to ``most`` of ``due`` with their runs' data; rows that somebody holds are left out.

        No run is locked: the claim of a check changes no state.
        """
        return list(lock_rows(due.select_related("run__data"), skip_locked=True)[:most])

    def wake_parents(self, rows: Sequence[StageRun], now: datetime) -> None:
        """SUSPENDED → PENDING for stages of one run that wait for a child run; the lock of their run is held."""
        if rows:
            waiting = self.suspended().filter(pk__in=[row.pk for row in rows], wait_kind=WaitKind.CHILD)
            changes = {**_NO_WAIT, "status": StageStatus.PENDING, "due_at": now}
            waiting.update(**changes, rank_at=rank(now, rows[0].priority))

    def rechecked(self, now: Any) -> SuspendedRows:
        """Suspended stages whose items or child run were not looked at for a while."""
        rows = self.suspended().filter(wait_kind__in=(WaitKind.ITEMS, WaitKind.CHILD), wake_at__lte=now)
        return rows.order_by("wake_at", "id")

    def look_later(self, wake_at: Any) -> int:
        """Let these suspended stages be looked at again at ``wake_at``; nothing else about them changes."""
        return self.suspended().update(wake_at=wake_at)

    def take_checks(self, rows: Sequence[StageRun], worker: uuid.UUID) -> None:
        """Let ``worker`` hold rows that are locked, with a new token each."""
        self.filter(pk__in=[row.pk for row in rows]).update(token=F("token") + 1, worker=worker, unknown_since=None)
        for row in rows:
            row.token, row.worker = row.token + 1, worker


class Suspendable(models.Model):
    """The changes of a stage run that begin or end in SUSPENDED; each is guarded by status and token."""

    class Meta:
        abstract = True

    def suspend(
        self,
        *,
        at: datetime,
        kind: str,
        name: str,
        wake_at: datetime | None,
        until: datetime | None,
        state: dict[str, Any] | None,
        poll_every: timedelta | None,
        metrics: dict[str, float],
    ) -> bool:
        """RUNNING → SUSPENDED. Nothing holds the stage from here on, and errors of earlier attempts are cleared."""
        return self._change(
            StageStatus.RUNNING,
            status=StageStatus.SUSPENDED,
            worker=None,
            error=None,
            wait_kind=kind,
            wait_name=name,
            suspended_at=at,
            wake_at=wake_at,
            wait_until=until,
            state=state,
            poll_every=None if poll_every is None else poll_every.total_seconds(),
            polls=0,
            check_errors=0,
            metrics=metrics or None,
        )

    def resume(self, *, at: datetime) -> bool:
        """SUSPENDED → PENDING: the answer has come, or the timer is over."""
        return self._change(
            StageStatus.SUSPENDED,
            status=StageStatus.PENDING,
            due_at=at,
            rank_at=rank(at, self.priority),  # type: ignore[attr-defined]
            **_NO_WAIT,
        )

    def complete_suspended(self, *, at: datetime, output: dict[str, Any], metrics: dict[str, float]) -> bool:
        """SUSPENDED → COMPLETED: the check has found the work done."""
        changes = {"output": output, "metrics": metrics or None, "error": None}
        return self._end_suspended(StageStatus.COMPLETED, at, **changes)

    def fail_suspended(self, *, at: datetime, error: dict[str, Any], **columns: Any) -> bool:
        """SUSPENDED → FAILED: the check says so or cannot be made, or nothing came in time."""
        return self._end_suspended(StageStatus.FAILED, at, error=error, **columns)

    def _end_suspended(self, status: StageStatus, at: datetime, **columns: Any) -> bool:
        return self._change(
            StageStatus.SUSPENDED, status=status, finished_at=at, worker=None, **{**_NO_WAIT, **columns}
        )

    def check_again(self, *, wake_at: datetime, **columns: Any) -> bool:
        """SUSPENDED stays SUSPENDED: nobody checks it any more, and it is due again at ``wake_at``."""
        return self._change(StageStatus.SUSPENDED, worker=None, wake_at=wake_at, token=self.token + 1, **columns)  # type: ignore[attr-defined]

    if TYPE_CHECKING:

        def _change(self, leaving: StageStatus, **columns: Any) -> bool: ...
