"""Commands that are to be carried out later, as rows: what, when, and what has become of it."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7
from workflow_engine.statuses import ScheduledStatus

from .base import lock_rows
from .schedules import Schedule

MAX_CORRELATION_ID = 200


def correlation_digest(correlation_id: str) -> str:
    """Return what stands for a correlation id under the unique index: exact on every collation."""
    return hashlib.sha256(correlation_id.encode("utf-8", "surrogatepass")).hexdigest()


class ScheduledCommandQuerySet(models.QuerySet["ScheduledCommand"]):
    """Commands, and the changes of their status: one UPDATE that asks for a pending one."""

    def pending(self) -> ScheduledCommandQuerySet:
        return self.filter(status=ScheduledStatus.PENDING)

    def due(self, now: Any) -> ScheduledCommandQuerySet:
        """Commands to carry out now, the longest waiting first."""
        return self.filter(due_at__lte=now).order_by("due_at", "id")

    def of(self, correlation_id: str) -> ScheduledCommandQuerySet:
        """The pending command of this correlation id: one or none."""
        return self.filter(pending_key=correlation_digest(correlation_id))

    def hold(self, row: ScheduledCommand) -> bool:
        """Lock a command that was read without one; False if it is not due as it was, or somebody holds it."""
        rows = self.pending().filter(pk=row.pk, due_at=row.due_at)
        return lock_rows(rows, skip_locked=True).values_list("pk", flat=True).first() is not None

    def fire(self, at: Any, result: dict[str, Any]) -> bool:
        """PENDING → FIRED; False if it was not pending."""
        return self._end(ScheduledStatus.FIRED, at, result=result, error="")

    def cancel(self, at: Any) -> int:
        """PENDING → CANCELLED; return how many were pending."""
        return self.pending().update(**_ended(ScheduledStatus.CANCELLED, at))

    def give_up(self, at: Any, error: str) -> bool:
        """PENDING → DEAD; False if it was not pending."""
        return self._end(ScheduledStatus.DEAD, at, error=error, tries=F("tries") + 1)

    def put_off(self, row: ScheduledCommand, until: Any, **columns: Any) -> bool:
        """Try it again later; False if it is not due as it was."""
        return bool(self.pending().filter(pk=row.pk, due_at=row.due_at).update(due_at=until, **columns))

    def _end(self, status: ScheduledStatus, at: Any, **columns: Any) -> bool:
        return bool(self.pending().update(**_ended(status, at), **columns))


def _ended(status: ScheduledStatus, at: Any) -> dict[str, Any]:
    return {"status": status, "finished_at": at, "due_at": None, "pending_key": None}


class ScheduledCommand(models.Model):
    """A command of the kernel that is carried out at a time, exactly once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Its wire name, ``run.cancel`` say, and its fields as JSON.
    command = models.CharField(_("command"), max_length=50)
    payload = models.JSONField(_("payload"), default=dict)
    correlation_id = models.CharField(_("correlation id"), max_length=MAX_CORRELATION_ID)
    # Digest of the correlation id while the command is pending: one at a time.
    pending_key = models.CharField(max_length=64, null=True, editable=False)
    run_at = models.DateTimeField(_("run at"))
    # ``run_at``, or when it is tried again; None once it has ended.
    due_at = models.DateTimeField(_("due at"), null=True)
    status = models.CharField(_("status"), max_length=16, choices=ScheduledStatus, default=ScheduledStatus.PENDING)
    actor = models.CharField(_("actor"), max_length=150, default="")
    tries = models.PositiveIntegerField(_("failed tries"), default=0)
    error = models.TextField(_("last error"), default="")
    # What it has come to: ``{"run_id": "…"}``, ``{"cancelled": true}``.
    result = models.JSONField(_("result"), null=True)
    created_at = models.DateTimeField(_("created at"))
    finished_at = models.DateTimeField(_("ended at"), null=True)

    objects = ScheduledCommandQuerySet.as_manager()
    # False on the row that ``schedule`` returns for one that was there.
    was_created: bool = True

    class Meta:
        verbose_name = _("scheduled command")
        verbose_name_plural = _("scheduled commands")
        default_permissions = ("view",)
        permissions = (("cancel_scheduledcommand", "Can cancel scheduled commands"),)
        constraints = (
            models.UniqueConstraint(fields=["pending_key"], name="wfe_scheduled_once"),
            models.CheckConstraint(condition=Q(status__in=ScheduledStatus.values), name="wfe_scheduled_status_known"),
            models.CheckConstraint(
                condition=Q(status=ScheduledStatus.PENDING, due_at__isnull=False, finished_at__isnull=True)
                | (~Q(status=ScheduledStatus.PENDING) & Q(due_at__isnull=True, finished_at__isnull=False)),
                name="wfe_scheduled_pending_is_due",
            ),
        )
        indexes = (
            models.Index(fields=["due_at", "id"], name="wfe_scheduled_due"),
            models.Index(fields=["finished_at"], name="wfe_scheduled_age"),
        )

    def __str__(self) -> str:
        return f"{self.command} {self.correlation_id}"

    @property
    def is_finished(self) -> bool:
        return self.status != ScheduledStatus.PENDING

    def is_alike(self, other: ScheduledCommand) -> bool:
        """Whether both say the same: what is to be done, and when."""
        mine, others = ((row.command, row.payload, row.run_at) for row in (self, other))
        return mine == others


def first_due(using: str) -> tuple[models.QuerySet[Any], models.QuerySet[Any]]:
    """Return when the first schedule is to be looked at, and the first command is due, as queries of one column."""
    schedules = Schedule.objects.using(using).filter(look_at__isnull=False).order_by("look_at")
    commands = ScheduledCommand.objects.using(using).filter(due_at__isnull=False).order_by("due_at")
    return schedules.values("look_at")[:1], commands.values("due_at")[:1]
