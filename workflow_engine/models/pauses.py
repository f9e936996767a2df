"""Pauses of whole workflows and queues. (A run that is paused says so itself, by ``paused_at``.)"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import PauseScope


class Pause(models.Model):
    """Nothing new starts of this workflow, or in this queue, until the row is gone."""

    id = models.BigAutoField(primary_key=True)
    scope = models.CharField(_("scope"), max_length=8, choices=PauseScope)
    name = models.CharField(_("name"), max_length=100)
    reason = models.TextField(_("reason"), default="")
    actor = models.CharField(_("actor"), max_length=150, default="")
    paused_at = models.DateTimeField(_("paused at"))

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(fields=["scope", "name"], name="wfe_pause_once"),
            models.CheckConstraint(condition=models.Q(scope__in=PauseScope.values), name="wfe_pause_scope_known"),
        )

    def __str__(self) -> str:
        return f"{self.scope} {self.name}"

    def is_of(self, scope: PauseScope, name: str) -> bool:
        return self.scope == scope and self.name == name
