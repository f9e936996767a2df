"""Notices: what one run has to tell another, or its limit, as a row: two runs are never locked in one transaction."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import NoticeKind

from .runs import WorkflowRun
from .stage_runs import StageRun


class RunNoticeQuerySet(models.QuerySet["RunNotice"]):
    def due(self, now: Any) -> RunNoticeQuerySet:
        """Notices to deliver now, the oldest first."""
        return self.filter(due_at__lte=now).order_by("due_at", "id")

    def put_off(self, now: Any, until: Any) -> int:
        """Let those that are due be due again later."""
        return self.filter(due_at__lte=now).update(due_at=until, tries=F("tries") + 1)


class RunNotice(models.Model):
    """Something that ``run`` has not been told yet; it is deleted in the transaction that acts on it."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="notices", db_constraint=False)
    # The stage that waited for the run that has ended.
    stage_run = models.ForeignKey(
        StageRun, on_delete=models.CASCADE, related_name="+", null=True, db_constraint=False, db_index=False
    )
    # The run that tells it.
    sender = models.UUIDField(_("from run"))
    kind = models.CharField(_("kind"), max_length=12, choices=NoticeKind)
    # Of the run, when this was written: what was rerun since is not meant any more.
    generation = models.PositiveIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField(_("due at"))
    tries = models.PositiveIntegerField(_("tries"), default=0, db_default=0)

    objects = RunNoticeQuerySet.as_manager()

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["due_at", "id"], name="wfe_notice_due"),)

    def __str__(self) -> str:
        return f"{self.kind} → {self.run_id}"
