"""Idempotency keys: a key, the effect and its result are one transaction."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class IdempotencyKey(models.Model):
    """A key that was used. ``digest`` is SHA-256 over scope, command and key: exact on every collation."""

    digest = models.CharField(primary_key=True, max_length=64, editable=False)
    command = models.CharField(_("command"), max_length=50)
    request_hash = models.CharField(max_length=64, editable=False)
    result = models.JSONField(_("result"))
    # No foreign key: the key is inserted before the run, and pruned with it.
    run_id = models.UUIDField(_("run"), null=True)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=["created_at"], name="wfe_idempotency_age"),
            models.Index(fields=["run_id"], name="wfe_idempotency_run"),
        )

    def __str__(self) -> str:
        return f"{self.command} {self.digest[:8]}"
