"""Dead letters: events that a subscriber has refused for good, until somebody has them delivered again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from .base import lock_rows
from .compiled import THIS_SUBSCRIBER, rows_of
from .runs import WorkflowRun


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    def due(self, now: Any, subscriber: str | None = None) -> DeadLetterQuerySet:
        """Letters that somebody wants to have delivered again, in the order of their events."""
        rows = self if subscriber is None else self.filter(subscriber=subscriber)
        return rows.filter(replay_at__lte=now).order_by("replay_at", "run", "sequence")

    def is_any_due(self, now: Any, subscriber: str) -> bool:
        """Whether ``due`` has any."""

        def build() -> Any:
            return DeadLetter.objects.using(self.db).due(now, THIS_SUBSCRIBER).order_by().values_list("pk")[:1]

        keep = hasattr(now, "resolve_expression")
        return bool(rows_of(self.db, "due letters", build, places={THIS_SUBSCRIBER: subscriber}, keep=keep))

    def claim(self, subscriber: str, most: int, *, now: Any, lease: timedelta) -> list[DeadLetter]:
        """Take letters that are to be delivered again for as long as ``lease``."""
        with transaction.atomic(using=self.db):
            rows = list(lock_rows(self.due(now, subscriber), skip_locked=True)[:most])
            self.filter(pk__in=[row.pk for row in rows]).update(token=F("token") + 1, replay_at=now + lease)
        for row in rows:
            row.token += 1
        return rows


class DeadLetter(models.Model):
    """An event that one subscriber could not be told; its other events and other subscribers went on."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, on_delete=models.CASCADE, related_name="dead_letters", db_constraint=False, db_index=False
    )
    sequence = models.PositiveIntegerField(_("event"))
    type = models.CharField(_("type"), max_length=50)
    subscriber = models.CharField(_("subscriber"), max_length=200)
    tries = models.PositiveIntegerField(_("tries"))
    error = models.TextField(_("last error"))
    died_at = models.DateTimeField(_("given up at"))
    # It is to be delivered again from then on; None: nobody has asked for that.
    replay_at = models.DateTimeField(_("to be replayed at"), null=True, blank=True)
    token = models.PositiveBigIntegerField(_("token"), default=0, db_default=0)

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        default_permissions = ("view",)
        permissions = (("replay_deadletter", "Can have dead letters delivered again"),)
        constraints = (models.UniqueConstraint(fields=["run", "sequence", "subscriber"], name="wfe_dead_letter_once"),)
        indexes = (models.Index(fields=["subscriber", "replay_at"], name="wfe_dead_letter_replay"),)

    def __str__(self) -> str:
        return f"{self.type} ↛ {self.subscriber}"
