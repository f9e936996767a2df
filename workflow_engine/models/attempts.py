"""Attempts: the history of every try of a stage's body, written once, when the try ends."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import AttemptKind, AttemptOutcome

from .runs import WorkflowRun
from .stage_runs import StageRun


class StageAttempt(models.Model):
    """One try of a stage's body."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="attempts", db_constraint=False)
    stage_run = models.ForeignKey(
        StageRun, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    stage = models.CharField(_("stage"), max_length=100)
    generation = models.PositiveIntegerField(_("generation"))
    attempt = models.PositiveIntegerField(_("attempt"))
    token = models.PositiveBigIntegerField()
    worker = models.UUIDField(_("worker"), null=True)
    kind = models.CharField(
        _("kind"), max_length=8, choices=AttemptKind, default=AttemptKind.BODY, db_default=AttemptKind.BODY
    )
    outcome = models.CharField(_("outcome"), max_length=16, choices=AttemptOutcome)
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"))
    error_code = models.CharField(_("error code"), max_length=50, default="")
    error_class = models.CharField(_("error class"), max_length=200, default="")
    error_message = models.TextField(_("error message"), default="")
    traceback = models.TextField(_("traceback"), default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ("view",)
        constraints = (
            # Also the proof that an attempt was settled, when the answer to a COMMIT was lost.
            models.UniqueConstraint(fields=["stage_run", "token"], name="wfe_attempt_once"),
            models.CheckConstraint(
                condition=models.Q(outcome__in=AttemptOutcome.values), name="wfe_attempt_outcome_known"
            ),
        )

    def __str__(self) -> str:
        return f"{self.stage} #{self.attempt} {self.outcome}"
