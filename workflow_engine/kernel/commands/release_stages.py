"""``stage.release``: a worker gives attempts back unfinished; no budget is spent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_event
from workflow_engine.kernel.events import StageRetrying
from workflow_engine.kernel.lapses import lapse_of, record
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun
from workflow_engine.statuses import AttemptOutcome, StageStatus

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseStagesResult:
    released: tuple[uuid.UUID, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseStages(Command[ReleaseStagesResult]):
    """Put back what ``worker_id`` holds: stage run id -> token. Rows it no longer holds are left alone."""

    type = "stage.release"
    worker_id: uuid.UUID
    tokens: Mapping[uuid.UUID, int]


@handles(ReleaseStages)
def release_stages(command: ReleaseStages, ports: Ports, causation_id: uuid.UUID) -> ReleaseStagesResult:
    rows = StageRun.objects.using(ports.using).filter(
        pk__in=list(command.tokens), worker=command.worker_id, status=StageStatus.RUNNING
    )
    held = [row for row in rows.order_by("run_id", "id") if row.token == command.tokens[row.pk]]
    released = [row.pk for row in held if transact(ports, causation_id, lambda work, r=row: _release(work, copy(r)))]  # type: ignore[misc]
    return ReleaseStagesResult(released=tuple(released))


def _release(work: UnitOfWork, row: StageRun) -> bool:
    run = work.lock_run(row.run_id)
    facts, lapse = stage_event(row), lapse_of(work, row, AttemptOutcome.RELEASED)
    if run is None or not row.put_back(due_at=work.now):
        return False
    record(work, [lapse])
    work.emit(run, StageRetrying(**facts, reason="released"))
    work.ring(row)
    points.hit(points.RELEASE_IN_TX)
    return True
