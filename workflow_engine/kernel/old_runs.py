"""Deleting runs that have ended, and their events, where nobody may still need them."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from django.db.models import Exists, Model, OuterRef

from workflow_engine.models import (
    DeadLetter,
    EventCursor,
    IdempotencyKey,
    OutboxEvent,
    RunData,
    RunNotice,
    RunPlace,
    ScheduleFire,
    StageAttempt,
    StageMap,
    StageMemo,
    StageRun,
    WorkflowAnnotation,
    WorkflowArtifact,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.statuses import OPEN_RUN

from . import points
from .pages import Page, Pruning, delete_rows
from .ports import Ports
from .unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)
# What belongs to a run, in the order in which it can be deleted.
OF_A_RUN: tuple[type[Model], ...] = (
    StageAttempt,
    WorkflowLog,
    WorkflowArtifact,
    WorkflowAnnotation,
    StageMemo,
    StageMap,
    OutboxEvent,
    DeadLetter,
    ScheduleFire,
    StageRun,
    RunPlace,
    RunData,
)


def prune_runs(pruning: Pruning) -> Page:
    """Delete runs with all that belongs to them; files go after the commit."""
    gone: list[uuid.UUID] = []

    def delete(work: UnitOfWork, run_id: uuid.UUID) -> int:
        run = work.lock_run(run_id, skip_locked=True)
        if run is None or not pruning.is_over(run, work.now) or _is_needed(work, run):
            return 0
        using = work.ports.using
        for model in OF_A_RUN:
            delete_rows(model._default_manager.using(using).filter(run=run_id))
        delete_rows(IdempotencyKey.objects.using(using).filter(run_id=run_id))
        delete_rows(WorkflowRun.objects.using(using).filter(pk=run_id))
        points.hit(points.PRUNE_IN_TX)
        gone.append(run_id)
        return 1

    page = pruning.page_of(pruning.runs(), delete)
    # The commit, or a second try of the same step, may have come to something else.
    there = WorkflowRun.objects.using(pruning.ports.using).filter(pk__in=gone).values_list("pk", flat=True)
    for run_id in set(gone) - set(there):
        points.hit(points.PRUNE_AFTER)
        _forget_parent(pruning, run_id)
        _forget_blobs(pruning.ports, run_id)
    if page.place is None and not pruning.dry_run:
        _forget_lost_parents(pruning)
    return page


def _is_needed(work: UnitOfWork, run: WorkflowRun) -> bool:
    """Whether somebody will ask for a run that has ended: a subscriber, a relative, a caller with its key."""
    using = work.ports.using
    kept_until = work.now - timedelta(days=work.ports.limits.idempotency_keep_days)
    runs = WorkflowRun.objects.using(using).filter(status__in=OPEN_RUN)
    return (
        _has_news(work, run.pk)
        or DeadLetter.objects.using(using).filter(run=run.pk, replay_at__isnull=False).exists()
        or RunNotice.objects.using(using).filter(run=run.pk).exists()
        or RunNotice.objects.using(using).filter(sender=run.pk).exists()
        or (run.parent_run_id is not None and runs.filter(pk=run.parent_run_id).exists())
        or runs.filter(parent_run=run.pk).exists()
        or IdempotencyKey.objects.using(using).filter(run_id=run.pk, created_at__gte=kept_until).exists()
    )


def _has_news(work: UnitOfWork, run_id: uuid.UUID) -> bool:
    using = work.ports.using
    # In this order: what is handed on between the two questions is a cursor then.
    return (
        OutboxEvent.objects.using(using).filter(run=run_id, pending=True).exists()
        or EventCursor.objects.using(using).filter(run=run_id).exists()
    )


def _forget_parent(pruning: Pruning, run_id: uuid.UUID) -> None:
    """Let the runs that it had started be nobody's; not in its own transaction, which locks no other run."""
    runs = WorkflowRun.objects.using(pruning.ports.using)
    nobody: dict[str, dict[str, None]] = {
        "parent_run": {"parent_run": None, "parent_stage_run": None},
        "root_run": {"root_run": None},
    }
    for column, nothing in nobody.items():
        # By their ids: found by their parent, MariaDB locks them in another order than whoever deletes them.
        while ids := list(runs.filter(**{column: run_id}).order_by("pk").values_list("pk", flat=True)[: pruning.most]):
            pruning.transact(lambda work, ids=ids, nothing=nothing: runs.filter(pk__in=ids).update(**nothing))  # type: ignore[misc]


def _forget_lost_parents(pruning: Pruning) -> None:
    """Do for runs that are gone what whoever deleted them died before."""
    runs = WorkflowRun.objects.using(pruning.ports.using)
    for column in ("parent_run_id", "root_run_id"):
        there = runs.filter(pk=OuterRef(column))
        lost = runs.filter(**{f"{column}__isnull": False}).exclude(Exists(there)).order_by()
        for run_id in set(lost.values_list(column, flat=True)):
            _forget_parent(pruning, run_id)


def _forget_blobs(ports: Ports, run_id: uuid.UUID) -> None:
    try:
        ports.blobs.delete_folder(f"runs/{run_id}")
    except Exception:
        logger.warning("files of a run that was deleted are left run=%s", run_id, exc_info=True)


def prune_events(pruning: Pruning) -> Page:
    """Delete all events of runs that have ended, once everybody has heard of them."""
    using = pruning.ports.using

    def delete(work: UnitOfWork, run_id: uuid.UUID) -> int:
        run = work.lock_run(run_id, skip_locked=True)
        if run is None or not pruning.is_over(run, work.now) or _has_news(work, run_id):
            return 0
        # All of them or none: what is left has no gaps. A dead letter needs its event.
        if DeadLetter.objects.using(using).filter(run=run_id).exists():
            return 0
        return delete_rows(OutboxEvent.objects.using(using).filter(run=run_id))

    events = OutboxEvent.objects.using(using).filter(run=OuterRef("pk"))
    return pruning.page_of(pruning.runs().filter(Exists(events)), delete)
