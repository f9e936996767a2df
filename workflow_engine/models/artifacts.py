"""Artifacts: files that stages wrote."""

from __future__ import annotations

import io
from typing import BinaryIO

from django.db import models
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7

from .payloads import Envelope
from .runs import WorkflowRun
from .stage_runs import StageRun


class WorkflowArtifact(models.Model):
    """A file of a completed stage. The row is written with the stage's result, the bytes before it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="artifacts", db_constraint=False)
    stage_run = models.ForeignKey(
        StageRun, on_delete=models.CASCADE, related_name="artifacts", db_constraint=False, db_index=False
    )
    stage = models.CharField(_("stage"), max_length=100)
    name = models.CharField(_("name"), max_length=200)
    content_type = models.CharField(_("content type"), max_length=100)
    size = models.PositiveBigIntegerField(_("size"))
    sha256 = models.CharField(max_length=64)
    key = models.CharField(_("key"), max_length=500)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")
        default_permissions = ("view",)
        constraints = (models.UniqueConstraint(fields=["stage_run", "name"], name="wfe_artifact_name"),)

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """Return the bytes. Raises ``BlobNotFound``, or ``BlobCorrupt`` if size or SHA-256 do not match."""
        return Envelope({"blob": self.key, "size": self.size, "sha256": self.sha256}).raw()

    def open(self) -> BinaryIO:
        """Return a binary file of the content. Raises as ``read``."""
        return io.BytesIO(self.read())
