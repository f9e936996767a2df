"""Memos: what a stage remembers between its attempts: results of sub-steps, timers, answers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import MemoKind

from .payloads import Envelope
from .runs import WorkflowRun
from .stage_runs import StageRun


class StageMemoQuerySet(models.QuerySet["StageMemo"]):
    def of(self, stage_run_id: uuid.UUID) -> Mapping[tuple[str, str], StageMemo]:
        """Return what a stage run remembers, by kind and name; an answer by default counts as an answer."""
        found: dict[tuple[str, str], StageMemo] = {}
        for memo in self.filter(stage_run=stage_run_id):
            kind = MemoKind.ANSWER if memo.kind == MemoKind.DEFAULT else memo.kind
            found[kind, memo.name] = memo
        return found


class StageMemo(models.Model):
    """One thing that a stage run knows for good. Written once; a rerun has stage runs, and so memos, of its own."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="memos", db_constraint=False)
    stage_run = models.ForeignKey(
        StageRun, on_delete=models.CASCADE, related_name="memos", db_constraint=False, db_index=False
    )
    kind = models.CharField(_("kind"), max_length=8, choices=MemoKind)
    name = models.CharField(_("name"), max_length=100)
    # The envelope of the value; None for timers.
    value = models.JSONField(null=True, editable=False)
    due_at = models.DateTimeField(_("due at"), null=True)
    token = models.PositiveBigIntegerField(default=0, editable=False)
    actor = models.CharField(_("actor"), max_length=150, default="")
    created_at = models.DateTimeField(_("created at"))

    objects = StageMemoQuerySet.as_manager()

    class Meta:
        verbose_name = _("memo")
        verbose_name_plural = _("memos")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(fields=["stage_run", "kind", "name"], name="wfe_memo_once"),
            models.CheckConstraint(condition=models.Q(kind__in=MemoKind.values), name="wfe_memo_kind_known"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def get_value(self) -> Any:
        """Return the value as JSON. Raises ``BlobNotFound`` if its blob is gone."""
        return Envelope(self.value).open()
