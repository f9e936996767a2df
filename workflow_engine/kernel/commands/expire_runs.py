"""``run.expire``: runs whose workflow's timeout is over fail, with every open stage cancelled."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow_engine.kernel import points
from workflow_engine.kernel.conflicts import is_away
from workflow_engine.kernel.ending import cancel_open_stages, fail_run
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WorkflowRun
from workflow_engine.models.compiled import rows_of
from workflow_engine.models.runs import family
from workflow_engine.statuses import RunStatus

from .base import Command, handles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpireRunsResult:
    expired: tuple[uuid.UUID, ...]
    # Somebody holds them just now, or they have ended: ask again.
    kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpireRuns(Command[ExpireRunsResult]):
    """Fail up to ``max`` RUNNING runs whose deadline is over (``RUN_TIMEOUT``), paused ones too."""

    type = "run.expire"
    max: int = 100
    run_id: uuid.UUID | None = None


@handles(ExpireRuns)
def expire_runs(command: ExpireRuns, ports: Ports, causation_id: uuid.UUID) -> ExpireRunsResult:

    def build() -> Any:
        rows = WorkflowRun.objects.using(ports.using).overdue(ports.clock.db_now())
        if command.run_id is not None:
            rows = rows.filter(family("", command.run_id))
        return rows.values_list("pk")[: command.max]

    keep = command.run_id is None and not ports.is_frozen
    found = [pk for (pk,) in rows_of(ports.using, ("overdue", command.max), build, keep=keep)]
    expired: list[uuid.UUID] = []
    for run_id in found:
        try:
            if transact(ports, causation_id, lambda work, pk=run_id: _expire(work, pk)):  # type: ignore[misc]
                expired.append(run_id)
        except Exception as error:  # one bad run must not hide the others
            if is_away(error):
                raise
            logger.exception("run cannot be failed by its timeout run=%s", run_id)
    return ExpireRunsResult(expired=tuple(expired), kept=len(found) - len(expired))


def _expire(work: UnitOfWork, run_id: uuid.UUID) -> bool:
    # Not waiting for a run that somebody holds: it may be about to end.
    run = work.lock_run(run_id, skip_locked=True)
    if run is None or run.status != RunStatus.RUNNING or run.deadline_at is None or run.deadline_at > work.now:
        return False
    cancel_open_stages(work, run)
    message = f"The run took longer than its workflow's timeout of {timedelta(seconds=run.plan.get('timeout', 0))}."
    fail_run(work, run, {"code": "RUN_TIMEOUT", "class": "TimeoutError", "message": message, "stage": None})
    logger.info("run timed out run=%s workflow=%s", run.pk, run.workflow)
    points.hit(points.EXPIRE_IN_TX)
    return True
