"""Annotations: facts that stages, people and systems record about a run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7

from .runs import WorkflowRun
from .stage_runs import StageRun


class WorkflowAnnotation(models.Model):
    """One fact: a dotted ``key``, a JSON ``value``, who said it and when. Kept through reruns."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="annotations", db_constraint=False)
    stage_run = models.ForeignKey(
        StageRun,
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="annotations",
        db_constraint=False,
        db_index=False,
    )
    stage = models.CharField(_("stage"), max_length=100, default="")
    generation = models.PositiveIntegerField(_("generation"), default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    key = models.CharField(_("key"), max_length=200)
    value = models.JSONField(_("value"))
    actor = models.CharField(_("actor"), max_length=150, default="")
    idempotency_key = models.CharField(max_length=200, null=True)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("annotation")
        verbose_name_plural = _("annotations")
        default_permissions = ("view", "add")
        constraints = (models.UniqueConstraint(fields=["run", "key", "idempotency_key"], name="wfe_annotation_once"),)

    def __str__(self) -> str:
        return self.key
