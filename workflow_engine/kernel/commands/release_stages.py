"""``stage.release``: a worker gives attempts back unfinished; no budget is spent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial

from workflow_engine.kernel import points
from workflow_engine.kernel.advance import stage_event
from workflow_engine.kernel.events import StageRetrying
from workflow_engine.kernel.lapses import lapse_of, record
from workflow_engine.kernel.maps import item_waits
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import StageRun
from workflow_engine.models.base import lock_rows
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
    # Leave rows of runs that somebody holds now: for callers that must not wait.
    skip_locked: bool = False


@handles(ReleaseStages)
def release_stages(command: ReleaseStages, ports: Ports, causation_id: uuid.UUID) -> ReleaseStagesResult:
    rows = StageRun.objects.using(ports.using).held().filter(pk__in=list(command.tokens), worker=command.worker_id)
    held = [row for row in rows.order_by("run_id", "id") if row.token == command.tokens[row.pk]]
    released = [
        row.pk
        for row in held
        if transact(ports, causation_id, partial(_release, candidate=row, skip_locked=command.skip_locked))
    ]
    return ReleaseStagesResult(released=tuple(released))


def _release(work: UnitOfWork, candidate: StageRun, skip_locked: bool) -> bool:
    # A copy: a try that is rolled back must not have changed what the next one begins with.
    row = copy(candidate)
    if row.status == StageStatus.SUSPENDED:
        # A check that was not made: no state changes, so no run is locked.
        rows = StageRun.objects.using(work.ports.using).filter(pk=row.pk)
        if skip_locked and not lock_rows(rows, skip_locked=True).values_list("pk"):
            return False
        return row.check_again(wake_at=work.now)
    run = work.lock_run(row.run_id, skip_locked=skip_locked)
    facts, lapse = stage_event(row), lapse_of(work, row, AttemptOutcome.RELEASED)
    if run is None or not row.put_back(due_at=work.now):
        return False
    record(work, [lapse])
    work.emit(run, StageRetrying(**facts, reason="released"))
    work.ring(row)
    item_waits(work, run, row)
    points.hit(points.RELEASE_IN_TX)
    return True
