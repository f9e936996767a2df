"""Deleting what is old: in pages, each run in a transaction of its own, and never what somebody may still need."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from workflow_engine.models import (
    BulkOperation,
    BulkTarget,
    IdempotencyKey,
    LimitStart,
    RunLimit,
    RunPlace,
    ScheduledCommand,
    ScheduleFire,
    StageRun,
    WebhookDelivery,
    WorkerHeartbeat,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.models.base import lock_rows
from workflow_engine.statuses import OPEN_BULK, OPEN_RUN

from .old_runs import prune_events, prune_runs
from .pages import Page, Place, Pruning, delete_free, delete_rows
from .stray_blobs import prune_blobs
from .unit_of_work import UnitOfWork

__all__ = ["PRUNERS", "Page", "Place", "Pruning"]


def prune_logs(pruning: Pruning) -> Page:
    """Delete log lines by their age."""
    rows = WorkflowLog.objects.using(pruning.ports.using)
    return delete_free(pruning, rows.filter(created_at__lt=pruning.limit).order_by("created_at", "id"))


def prune_keys(pruning: Pruning) -> Page:
    """Delete idempotency keys whose run is gone."""
    using = pruning.ports.using
    rows = IdempotencyKey.objects.using(using)
    page = rows.filter(created_at__lt=pruning.limit, pk__gt=pruning.after or "").order_by("pk")
    found = list(page.values_list("pk", "run_id")[: pruning.most])
    runs = WorkflowRun.objects.using(using).filter(pk__in={run_id for _, run_id in found if run_id is not None})
    living = set(runs.values_list("pk", flat=True))
    gone = [pk for pk, run_id in found if run_id not in living]
    deleted = delete_free(pruning, rows.filter(pk__in=gone).order_by("pk"))
    return replace(deleted, place=found[-1][0] if len(found) == pruning.most else None)


def prune_workers(pruning: Pruning) -> Page:
    """Delete the rows of processes that are gone and hold nothing."""
    using = pruning.ports.using
    rows = WorkerHeartbeat.objects.using(using)
    held = StageRun.objects.using(using).filter(worker=OuterRef("pk"))
    old = rows.filter(lease_until__lt=pruning.limit).exclude(Exists(held))
    return delete_free(pruning, old.order_by("lease_until", "id"))


# Targets that are deleted in one transaction.
TARGETS_AT_ONCE = 1_000


def prune_bulk(pruning: Pruning) -> Page:
    """Delete bulk operations that have ended, with what became of each run in them."""
    using = pruning.ports.using
    rows, targets = BulkOperation.objects.using(using), BulkTarget.objects.using(using)

    def delete(work: UnitOfWork, operation_id: uuid.UUID) -> int:
        operation, left = rows.filter(pk=operation_id), targets.filter(operation=operation_id)
        # Somebody else is at it, or was and has not come to its end.
        if not lock_rows(operation, skip_locked=True) or left.exists():
            return 0
        return delete_rows(operation)

    old = rows.exclude(status__in=OPEN_BULK).filter(finished_at__lt=pruning.limit).order_by("pk")
    old = old if pruning.after is None else old.filter(pk__gt=pruning.after)
    for operation_id in () if pruning.dry_run else list(old.values_list("pk", flat=True)[: pruning.most]):
        left = targets.filter(operation=operation_id).order_by("pk")
        many = replace(pruning, most=TARGETS_AT_ONCE)
        while delete_free(many, left).place is not None:
            pass
    return pruning.page_of(old, delete)


def prune_schedules(pruning: Pruning) -> Page:
    """Delete scheduled commands that have ended, and times of schedules whose runs have."""
    using = pruning.ports.using
    commands = ScheduledCommand.objects.using(using).filter(finished_at__lt=pruning.limit)
    open_runs = WorkflowRun.objects.using(using).filter(pk=OuterRef("run_id"), status__in=OPEN_RUN)
    times = ScheduleFire.objects.using(using).filter(due_at__lt=pruning.limit, run__isnull=False)
    return _one_after_the_other(
        pruning, commands.order_by("finished_at", "id"), times.exclude(Exists(open_runs)).order_by("due_at", "id")
    )


def prune_deliveries(pruning: Pruning) -> Page:
    """Delete the log of webhooks by its age."""
    rows = WebhookDelivery.objects.using(pruning.ports.using)
    return delete_free(pruning, rows.filter(sent_at__lt=pruning.limit).order_by("sent_at", "id"))


def prune_limits(pruning: Pruning) -> Page:
    """Delete limits that count no run any more; one that does again is written anew."""
    using = pruning.ports.using
    starts = LimitStart.objects.using(using)
    places = RunPlace.objects.using(using).filter(limit=OuterRef("pk"))
    idle = RunLimit.objects.using(using).exclude(Exists(places))
    idle = idle.exclude(Exists(starts.filter(limit=OuterRef("pk"), at__gte=pruning.limit)))
    old = starts.filter(at__lt=pruning.limit).order_by("id")
    return _one_after_the_other(pruning, old, idle.order_by("pk"))


def _one_after_the_other(pruning: Pruning, *kinds: QuerySet[Any]) -> Page:
    """Delete the first of a kind, and those of the next once there is no more of that."""
    deleted, page = 0, Page(0)
    for rows in kinds:
        page = delete_free(pruning, rows)
        deleted += page.deleted
        if page.place is not None:
            break
    return replace(page, deleted=deleted)


PRUNERS: dict[str, Callable[[Pruning], Page]] = {
    "events": prune_events,
    "logs": prune_logs,
    "runs": prune_runs,
    "keys": prune_keys,
    "workers": prune_workers,
    "bulk": prune_bulk,
    "schedules": prune_schedules,
    "deliveries": prune_deliveries,
    "limits": prune_limits,
    "blobs": prune_blobs,
}
