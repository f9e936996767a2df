"""``worker.report_dead``: somebody knows that processes have ended, so nobody has to wait for their leases."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Least

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WorkerHeartbeat

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportDeadWorkersResult:
    # Those that nobody knew to have ended.
    reported: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportDeadWorkers(Command[ReportDeadWorkersResult]):
    """End the leases of processes that have ended without a last beat; what they held is free for the reaper at once.

    Args:
        workers: only those of which the caller knows that their process is gone. A worker that beats again has its
            lease again.
    """

    type = "worker.report_dead"
    workers: Collection[uuid.UUID]


@handles(ReportDeadWorkers)
def report_dead_workers(command: ReportDeadWorkers, ports: Ports, causation_id: uuid.UUID) -> ReportDeadWorkersResult:
    def step(work: UnitOfWork) -> int:
        rows: Any = WorkerHeartbeat.objects.using(ports.using).filter(pk__in=command.workers, stopped_at__isnull=True)
        # Not later than it was: what was taken after its end is told from what ran (see the reaper).
        return int(rows.update(lease_until=Least("lease_until", work.now), stopped_at=work.now))

    return ReportDeadWorkersResult(reported=transact(ports, causation_id, step))
