"""Log lines of stages, appended in batches while the body runs."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .runs import WorkflowRun
from .stage_runs import StageRun


class LogLevel(models.TextChoices):
    DEBUG = "DEBUG", _("Debug")
    INFO = "INFO", _("Info")
    WARNING = "WARNING", _("Warning")
    ERROR = "ERROR", _("Error")


class WorkflowLog(models.Model):
    """One line. No database foreign keys: appending locks nothing and waits for nobody."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, on_delete=models.CASCADE, related_name="logs", db_constraint=False, db_index=False
    )
    # Stage runs are deleted with their run, and their lines with it: no search by stage run is needed.
    stage_run = models.ForeignKey(
        StageRun, on_delete=models.DO_NOTHING, null=True, related_name="logs", db_constraint=False, db_index=False
    )
    stage = models.CharField(_("stage"), max_length=100, default="")
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    level = models.CharField(_("level"), max_length=8, choices=LogLevel)
    message = models.TextField(_("message"))
    fields = models.JSONField(_("fields"), default=dict)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("log line")
        verbose_name_plural = _("log lines")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=["run", "id"], name="wfe_log_run"),
            models.Index(fields=["created_at"], name="wfe_log_age"),
        )

    def __str__(self) -> str:
        return f"{self.level} {self.message[:60]}"
