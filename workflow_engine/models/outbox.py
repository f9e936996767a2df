"""The outbox: immutable events, written in the transaction that made them true."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .runs import WorkflowRun


class OutboxEventQuerySet(models.QuerySet["OutboxEvent"]):
    def to_hand_on(self) -> OutboxEventQuerySet:
        """Events of which somebody wants to hear, the first first; within a run that is the order of their numbers."""
        return self.filter(pending=True).order_by("id")


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
    # Somebody wants to hear of it, and who that is was not written down yet (see ``EventCursor``). The only column that
    # ever changes.
    pending = models.BooleanField(_("to be handed on"), default=False, db_default=False, editable=False)

    objects = OutboxEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)
        constraints = (models.UniqueConstraint(fields=["run", "sequence"], name="wfe_event_sequence"),)
        indexes = (models.Index(fields=["id"], condition=models.Q(pending=True), name="wfe_event_pending"),)

    def __str__(self) -> str:
        return f"{self.sequence} {self.type}"
