"""Bulk operations: one change of many runs, as a row with its progress and a row per run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.models import Count, Q
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7
from workflow_engine.statuses import OPEN_BULK, BulkKind, BulkStatus, TargetOutcome

# What a user needs to ask for an operation, as for the same change of one run.
PERMISSIONS = {
    BulkKind.CANCEL: "workflow_engine.cancel_workflowrun",
    BulkKind.PAUSE: "workflow_engine.pause_workflowrun",
    BulkKind.RESUME: "workflow_engine.pause_workflowrun",
    BulkKind.RERUN: "workflow_engine.rerun_workflowrun",
}


class BulkOperationQuerySet(models.QuerySet["BulkOperation"]):
    """Operations, and the changes of their status: one UPDATE that names the statuses it may leave."""

    def open(self) -> BulkOperationQuerySet:
        return self.filter(status__in=OPEN_BULK)

    def begin(self, at: Any) -> bool:
        """PENDING → RUNNING; False if it had begun, or has ended."""
        return bool(self.filter(status=BulkStatus.PENDING).update(status=BulkStatus.RUNNING, started_at=at))

    def end(self, status: BulkStatus, at: Any) -> bool:
        """PENDING or RUNNING → ``status``; False if it had ended."""
        return bool(self.open().update(status=status, finished_at=at))

    def mark_counted(self, at: Any, *, before: Any) -> bool:
        """Say that its targets are being counted; False if that was done after ``before``, or it has ended."""
        stale = Q(counted_at__isnull=True) | Q(counted_at__lte=before)
        return bool(self.open().filter(stale).update(counted_at=at))


class BulkOperation(models.Model):
    """A change of many runs, which the orchestrators carry out run by run. The set of runs never changes."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(_("kind"), max_length=8, choices=BulkKind)
    # ``{"reason": "…"}``, or ``{"stage_id": "…", "config": {…} or null}`` of a rerun.
    arguments = models.JSONField(_("arguments"), default=dict)
    actor = models.CharField(_("actor"), max_length=150, default="")
    status = models.CharField(_("status"), max_length=16, choices=BulkStatus, default=BulkStatus.PENDING)
    total = models.PositiveIntegerField(_("runs"), default=0)
    changed = models.PositiveIntegerField(_("changed"), default=0)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    created_at = models.DateTimeField(_("created at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    counted_at = models.DateTimeField(null=True, editable=False)

    objects = BulkOperationQuerySet.as_manager()

    class Meta:
        verbose_name = _("bulk operation")
        verbose_name_plural = _("bulk operations")
        default_permissions = ("view",)
        constraints = (
            models.CheckConstraint(condition=Q(kind__in=BulkKind.values), name="wfe_bulk_kind_known"),
            models.CheckConstraint(condition=Q(status__in=BulkStatus.values), name="wfe_bulk_status_known"),
        )
        indexes = (models.Index(fields=["id"], condition=Q(status__in=OPEN_BULK), name="wfe_bulk_under_way"),)

    def __str__(self) -> str:
        return f"{self.kind} {str(self.pk)[:13]}"

    @property
    def done(self) -> int:
        """How many runs it is done with; what a cancelled operation was not done with stays as it is."""
        return self.changed + self.unchanged + self.failed

    @property
    def is_finished(self) -> bool:
        return self.status not in OPEN_BULK

    def count(self) -> None:
        """Store how far it has come, as its targets say; its row is locked."""
        using = self._state.db
        rows = BulkTarget.objects.using(using).filter(operation=self.pk).order_by()
        found = dict(rows.values_list("outcome").annotate(Count("pk")))
        counts = {
            "changed": found.get(TargetOutcome.CHANGED, 0),
            "unchanged": found.get(TargetOutcome.UNCHANGED, 0),
            "failed": found.get(TargetOutcome.FAILED, 0),
        }
        BulkOperation.objects.using(using).filter(pk=self.pk).update(**counts)


class BulkTargetQuerySet(models.QuerySet["BulkTarget"]):
    """Targets, and what becomes of them: an outcome is written once, by an UPDATE that asks for an open one."""

    def open(self) -> BulkTargetQuerySet:
        return self.filter(outcome=TargetOutcome.OPEN)

    def free(self, operation_id: Any, now: Any) -> BulkTargetQuerySet:
        """Open targets that nobody is at, in the order in which they were named."""
        free = self.open().filter(Q(taken_until__isnull=True) | Q(taken_until__lte=now))
        return free.filter(operation=operation_id).order_by("id")

    def take(self, targets: Sequence[int], until: Any) -> int:
        """Keep others from beginning with these until then."""
        return self.open().filter(pk__in=targets).update(taken_until=until)

    def settle(self, target_id: int, outcome: TargetOutcome, message: str) -> bool:
        """Write the outcome; False if there is one."""
        rows = self.open().filter(pk=target_id)
        return bool(rows.update(outcome=outcome, message=message, taken_until=None))

    def drop(self, operation_id: Any) -> int:
        """Give up what is still open of an operation that is cancelled."""
        rows = self.open().filter(operation=operation_id)
        return rows.update(outcome=TargetOutcome.CANCELLED, taken_until=None)


class BulkTarget(models.Model):
    """A run of a bulk operation, and what became of it there. The run may be gone by now."""

    id = models.BigAutoField(primary_key=True)
    operation = models.ForeignKey(
        BulkOperation, on_delete=models.CASCADE, related_name="targets", db_constraint=False, db_index=False
    )
    run_id = models.UUIDField(_("run"))
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=TargetOutcome, default=TargetOutcome.OPEN, db_default=TargetOutcome.OPEN
    )
    message = models.TextField(_("message"), default="")
    # An orchestrator is at it; it died, if that is over. What counts is the outcome.
    taken_until = models.DateTimeField(null=True, editable=False)

    objects = BulkTargetQuerySet.as_manager()

    class Meta:
        verbose_name = _("run of a bulk operation")
        verbose_name_plural = _("runs of bulk operations")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(fields=["operation", "run_id"], name="wfe_bulk_target_once"),
            models.CheckConstraint(condition=Q(outcome__in=TargetOutcome.values), name="wfe_bulk_target_outcome_known"),
        )
        indexes = (
            models.Index(
                fields=["operation", "id"], condition=Q(outcome=TargetOutcome.OPEN), name="wfe_bulk_target_open"
            ),
            # The list of what failed, of an operation on very many runs.
            models.Index(
                fields=["operation", "id"], condition=Q(outcome=TargetOutcome.FAILED), name="wfe_bulk_target_failed"
            ),
        )

    def __str__(self) -> str:
        return f"{self.run_id} {self.outcome}"


def snapshot(operation_id: Any, run_ids: Sequence[Any], using: str) -> None:
    """Add runs to an operation that is being created; those that it has are left out."""
    rows = [BulkTarget(operation_id=operation_id, run_id=run_id) for run_id in run_ids]
    BulkTarget.objects.using(using).bulk_create(rows, ignore_conflicts=True)


def count_of(operation_id: Any, using: str) -> int:
    return BulkTarget.objects.using(using).filter(operation=operation_id).count()
