"""``run.deliver_notices``: runs are told what runs in other transactions have left for them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import InterfaceError, OperationalError
from django.db.models import F

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable
from workflow_engine.kernel import points
from workflow_engine.kernel.children import known_children, waiting_for
from workflow_engine.kernel.ending import cancel_run
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.rerunning import go_on_after_child
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import RunNotice, StageRun, WorkflowRun
from workflow_engine.models.runs import family
from workflow_engine.statuses import OPEN_RUN, NoticeKind, RunStatus, StageStatus

from .base import Command, handles
from .give_places import give_for

logger = logging.getLogger(__name__)
# Notices to one run that are acted on in one transaction.
MOST_AT_ONCE = 200
# What cannot be acted on yet is tried again after this, ever more seldom up to the last.
AGAIN, LONGEST = timedelta(seconds=2), timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverNoticesResult:
    # Notices that were acted on, or have become pointless.
    delivered: int
    # As many were due as were asked for: there may be more.
    is_full: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliverNotices(Command[DeliverNoticesResult]):
    """Act on notices that are due: a child has ended, so its stage goes on; a parent's stage has, so its child is
    cancelled; a run wants a place of its limit, or has left one. Any number of callers at a time; runs that somebody
    holds just now are left for the next one.

    Args:
        max: runs that are told something, each in a transaction of its own.
        run_id: only this run, and those that it has started.
    """

    type = "run.deliver_notices"
    max: int = 100
    run_id: uuid.UUID | None = None


@handles(DeliverNotices)
def deliver_notices(command: DeliverNotices, ports: Ports, causation_id: uuid.UUID) -> DeliverNoticesResult:
    due = RunNotice.objects.using(ports.using).due(ports.clock.db_now())
    if command.run_id is not None:
        due = due.filter(family("run", command.run_id))
    # Many may be for one run: a page of them is enough to find whom to tell.
    page = list(due.values_list("pk", "run_id", "kind")[: command.max * 10])
    runs = list(dict.fromkeys(run_id for _, run_id, kind in page if kind != NoticeKind.PLACE))
    rest, runs = len(runs) > command.max, runs[: command.max]
    # Places come first: a run that gets one may be claimed while others are told something.
    places = {pk: run_id for pk, run_id, kind in page if kind == NoticeKind.PLACE}
    delivered, more = give_for(ports, causation_id, places, command.max)
    for run_id in runs:
        try:
            delivered += transact(ports, causation_id, lambda work, pk=run_id: _deliver(work, pk))  # type: ignore[misc]
        except (DatabaseConflict, DatabaseUnavailable, OperationalError, InterfaceError):
            # Nothing is wrong with the notices: they are due again at the next look.
            raise
        except Exception:  # one bad run must not keep the others waiting
            logger.exception("notices cannot be delivered run=%s", run_id)
            now = ports.clock.db_now()
            others = RunNotice.objects.using(ports.using).exclude(kind=NoticeKind.PLACE)
            others.filter(run=run_id).put_off(now, now + LONGEST)
        points.hit(points.NOTICE_AFTER)
    return DeliverNoticesResult(delivered=delivered, is_full=rest or more or len(page) == command.max * 10)


def _deliver(work: UnitOfWork, run_id: uuid.UUID) -> int:
    # Never waiting: whoever holds the run, its notices are due a moment later too.
    run = work.lock_run(run_id, skip_locked=True)
    rows = RunNotice.objects.using(work.ports.using).filter(run=run_id).exclude(kind=NoticeKind.PLACE)
    if run is None:
        # Or it was deleted: then nobody needs to know.
        gone = not WorkflowRun.objects.using(work.ports.using).filter(pk=run_id).exists()
        return rows.delete()[0] if gone else 0
    found = list(rows.due(work.now)[:MOST_AT_ONCE])
    cancels = [one for one in found if one.kind == NoticeKind.CANCEL and one.generation == run.generation]
    later: list[RunNotice] = []
    if cancels and run.status in OPEN_RUN:
        cancel_run(work, run, reason=f"The stage of run {cancels[0].sender} that had started it has ended.")
    else:
        later = _children_ended(work, run, [one for one in found if one.kind == NoticeKind.ENDED])
    done = [one.pk for one in found if one not in later]
    rows.filter(pk__in=done).delete()
    for one in later:
        wait = min(AGAIN * 2 ** min(one.tries, 10), LONGEST)
        rows.filter(pk=one.pk).update(due_at=work.now + wait, tries=F("tries") + 1)
    points.hit(points.NOTICE_IN_TX)
    return len(done)


def _children_ended(work: UnitOfWork, run: WorkflowRun, notices: Sequence[RunNotice]) -> list[RunNotice]:
    """Let the stages go on whose child has ended; return the notices that are to be kept for later."""
    stages = StageRun.objects.using(work.ports.using)
    if run.status in OPEN_RUN:
        waiting = waiting_for(work, run, notices)
        stages.wake_parents(waiting, work.now)
        for row in waiting:
            work.ring(row)
    if run.status not in (RunStatus.RUNNING, RunStatus.FAILED):
        return []
    later = []
    for one in notices:
        mended = _mended(work, run, one)
        if mended is not None and run.status == RunStatus.RUNNING:
            # Its siblings are not at their end: then the run fails, and goes on from here.
            later.append(one)
        elif mended is not None and run.status == RunStatus.FAILED:
            go_on_after_child(work, run, mended)
    return later


def _mended(work: UnitOfWork, run: WorkflowRun, told: RunNotice) -> StageRun | None:
    """Return the stage that had failed because of a child run, if all that it has started have completed by now."""
    if told.stage_run_id is None:
        return None
    stages = StageRun.objects.using(work.ports.using).current()
    rows = stages.filter(pk=told.stage_run_id, run=run, status=StageStatus.FAILED).defer("config")
    row = rows.first()
    if row is None or (row.error or {}).get("code") != "CHILD_FAILED":
        return None
    children = {child for _, child in known_children(work, [row.pk])}
    done = WorkflowRun.objects.using(work.ports.using).filter(pk__in=children, status=RunStatus.COMPLETED)
    return row if told.sender in children and done.count() == len(children) else None
