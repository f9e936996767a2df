"""The outbox: immutable events, written in the transaction that made them true."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .runs import WorkflowRun


class OutboxEvent(models.Model):
    """Something that happened to a run. ``sequence`` counts from 1 per run, without gaps, in commit order."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, on_delete=models.CASCADE, related_name="events", db_constraint=False, db_index=False
    )
    sequence = models.PositiveIntegerField(_("sequence"))
    generation = models.PositiveIntegerField(_("generation"))
    type = models.CharField(_("type"), max_length=50)
    payload = models.JSONField(_("payload"))
    causation_id = models.UUIDField(_("caused by command"))
    occurred_at = models.DateTimeField(_("occurred at"))

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)
        constraints = (models.UniqueConstraint(fields=["run", "sequence"], name="wfe_event_sequence"),)

    def __str__(self) -> str:
        return f"{self.sequence} {self.type}"
