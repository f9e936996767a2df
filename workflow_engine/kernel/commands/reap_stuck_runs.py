"""``run.reap_stuck``: runs that nothing moves go on; what can never go on fails, once."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from django.db.models import Q

from workflow_engine.kernel import points
from workflow_engine.kernel.advance import fail_run
from workflow_engine.kernel.conflicts import is_away
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.kernel.waiting import ring_again
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.base import constant
from workflow_engine.models.compiled import rows_of
from workflow_engine.statuses import DONE_STAGE, OPEN_STAGE, RunStatus

from .base import Command, handles
from .transition_run import advance

logger = logging.getLogger(__name__)
# A place in the list of running runs.
Place = tuple[datetime, uuid.UUID]
# Running runs that are looked at by two statements, and how often in one call at most.
PAGE = 1_000
MAX_PAGES = 100
Verdict = Literal["transitioned", "failed", "kept"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapStuckRunsResult:
    transitioned: tuple[uuid.UUID, ...]
    # Queues that were rung for.
    requeued: tuple[str, ...]
    failed: tuple[uuid.UUID, ...]
    # Where to go on; None: all were looked at.
    place: Place | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReapStuckRuns(Command[ReapStuckRunsResult]):
    """Advance running runs without an open stage, fail (``STUCK``) those that cannot, ring for what is due and waits.

    Decided from rows, under the run's lock: never by silence or age.

    Args:
        max: at most so many runs; one that cannot be treated hides no other.
        after: go on where an earlier command came to (its ``place``).
        pages: look at so many thousands of running runs.
    """

    type = "run.reap_stuck"
    max: int = 100
    after: Place | None = None
    pages: int = MAX_PAGES


@handles(ReapStuckRuns)
def reap_stuck_runs(command: ReapStuckRuns, ports: Ports, causation_id: uuid.UUID) -> ReapStuckRunsResult:
    done: dict[Verdict, list[uuid.UUID]] = {"transitioned": [], "failed": [], "kept": []}
    reached = command.after
    for place, run_id in _candidates(command, ports):
        reached = place
        if run_id is None:
            continue
        try:
            verdict = transact(ports, causation_id, lambda work, pk=run_id: _reap(work, pk))  # type: ignore[misc]
        except Exception as error:  # one bad run must not hide the others
            if is_away(error):
                raise
            logger.exception("stuck run cannot be treated run=%s", run_id)
            continue
        done[verdict].append(run_id)
        points.hit(points.REAP_AFTER)
        if len(done["transitioned"]) + len(done["failed"]) >= command.max:
            break
    return ReapStuckRunsResult(
        transitioned=tuple(done["transitioned"]),
        requeued=tuple(ring_again(ports)),
        failed=tuple(done["failed"]),
        place=reached,
    )


def _candidates(command: ReapStuckRuns, ports: Ports) -> Iterator[tuple[Place | None, uuid.UUID | None]]:
    """Yield runs without an open stage, each with the place after it; without a run: the place after a page."""
    after = command.after
    for _ in range(command.pages):
        page = _page(ports, after)
        for started_at, run_id, is_open in page:
            after = started_at, run_id
            if not is_open:
                yield after, run_id
        if len(page) < PAGE:
            yield None, None
            return
        yield after, None


def _page(ports: Ports, after: Place | None) -> list[tuple[datetime, uuid.UUID, bool]]:
    rows = WorkflowRun.objects.using(ports.using).filter(status=constant(RunStatus.RUNNING), started_at__isnull=False)
    if after is not None:
        started_at, run_id = after
        rows = rows.filter(started_at__gte=started_at).filter(Q(started_at__gt=started_at) | Q(pk__gt=run_id))
    page = rows_of(
        ports.using,
        ("running", PAGE),
        lambda: rows.order_by("started_at", "pk").values_list("started_at", "pk")[:PAGE],
        keep=after is None,
    )
    # By a statement of its own, which asks the index for these runs whatever the planner thinks of the table.
    ids = [run_id for _, run_id in page]
    is_open = set(_open_stages(ports, ids).values_list("run", flat=True)) if page else set()
    return [(cast(datetime, started_at), run_id, run_id in is_open) for started_at, run_id in page]


def _open_stages(ports: Ports, run_ids: Sequence[uuid.UUID]) -> Any:
    return StageRun.objects.using(ports.using).current().filter(run__in=run_ids, status__in=OPEN_STAGE)


def _reap(work: UnitOfWork, run_id: uuid.UUID) -> Verdict:
    # Not waiting for a run that somebody holds: it moves.
    run = work.lock_run(run_id, skip_locked=True)
    if run is None:
        return "kept"
    if work.repeated and run.status != RunStatus.RUNNING:
        return _done_before(work, run)
    # Asked again under the lock.
    if run.status != RunStatus.RUNNING or _open_stages(work.ports, [run.pk]).exists():
        return "kept"
    verdict: Verdict = "transitioned"
    if advance(work, run) == "noop":
        if run.paused_at is not None:
            return "kept"
        _fail(work, run)
        verdict = "failed"
    logger.warning("stuck run %s run=%s workflow=%s", verdict, run.pk, run.workflow)
    points.hit(points.REAP_IN_TX)
    return verdict


def _done_before(work: UnitOfWork, run: WorkflowRun) -> Verdict:
    """Return what an earlier try of this step has done, if its COMMIT was not answered."""
    using = work.ports.using
    if not OutboxEvent.objects.using(using).filter(run=run, causation_id=work.causation_id).exists():
        return "kept"
    return "failed" if (run.error or {}).get("code") == "STUCK" else "transitioned"


def _fail(work: UnitOfWork, run: WorkflowRun) -> None:
    states = _states(work, run)
    culprit = next((stage for stage, status in states.items() if status not in DONE_STAGE), None)
    listed = ", ".join(f"{stage} {status}" for stage, status in states.items())
    message = f"Nothing can move this run on: no stage of it is pending, running or suspended ({listed})."
    error = {"code": "STUCK", "class": "", "message": message[:2000], "stage": culprit}
    fail_run(work, run, error)


def _states(work: UnitOfWork, run: WorkflowRun) -> Mapping[str, str]:
    """Return the status of every stage up to the group at which the run stands; ``missing`` where there is no row."""
    rows = StageRun.objects.using(work.ports.using).current().stages().filter(run=run).in_order()
    found = list(rows.values_list("stage", "status", "group_number"))
    last = max((number for _, _, number in found), default=0)
    planned = [item["id"] for group in run.plan["groups"][:last] for item in group["stages"]]
    states = dict.fromkeys(planned, "missing")
    return states | {stage: str(status) for stage, status, _ in found}
