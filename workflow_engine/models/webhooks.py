"""Webhooks: addresses that hear of events, and what became of every request to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7

# The names of webhooks as subscribers begin so.
PREFIX = "webhook:"
MOST_URL, MOST_DESCRIPTION, MOST_REASON = 2000, 200, 500


def names_of_webhooks() -> Q:
    """Return the condition for rows whose subscriber is a webhook, whether that still exists or not."""
    # Not as a range: in most collations a colon does not come before a semicolon.
    return Q(subscriber__startswith=PREFIX)


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    """Endpoints, and the changes of their state: each one UPDATE that names the state it may leave."""

    def active(self) -> WebhookEndpointQuerySet:
        return self.filter(active=True)

    def enable(self, now: Any) -> bool:
        """Let it hear of events from now on, as if it had never failed; False if it did already."""
        fresh = {"failures": 0, "failing_since": None, "rest_until": None}
        return bool(
            self.filter(active=False).update(active=True, disabled_at=None, disabled_reason="", updated_at=now, **fresh)
        )

    def disable(self, now: Any, reason: str) -> bool:
        """Let it hear of nothing from now on; False if it did not anyway."""
        return bool(
            self.active().update(active=False, disabled_at=now, disabled_reason=reason[:MOST_REASON], updated_at=now)
        )

    def note_success(self) -> None:
        self.filter(failures__gt=0).update(failures=0, failing_since=None, rest_until=None)

    def note_failure(self, now: Any, rest: timedelta | None) -> None:
        """Count one more failure in a row; ``rest``: nothing is sent to it for so long."""
        # A rest that somebody else has found out about goes on.
        rests = {} if rest is None else {"rest_until": now + rest}
        self.update(failures=F("failures") + 1, failing_since=Coalesce("failing_since", now), **rests)


class WebhookEndpoint(models.Model):
    """An address that gets events by HTTP, signed. Its secrets are shown once, where they are made."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    url = models.CharField(_("URL"), max_length=MOST_URL)
    description = models.CharField(_("description"), max_length=MOST_DESCRIPTION, default="", blank=True)
    # As ``on`` of plugins has them; empty: all.
    events = models.JSONField(_("events"), default=list, blank=True)
    workflows = models.JSONField(_("workflows"), default=list, blank=True)
    active = models.BooleanField(_("active"), default=True)
    secret = models.CharField(_("secret"), max_length=100, editable=False)
    # Signs too, until then.
    previous_secret = models.CharField(_("previous secret"), max_length=100, default="", editable=False)
    previous_until = models.DateTimeField(_("previous secret until"), null=True, editable=False)
    # In a row, whatever the event; and since when.
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, editable=False)
    rest_until = models.DateTimeField(_("rests until"), null=True, editable=False)
    disabled_at = models.DateTimeField(_("disabled at"), null=True, editable=False)
    disabled_reason = models.CharField(_("disabled because"), max_length=MOST_REASON, default="", editable=False)
    created_by = models.CharField(_("created by"), max_length=150, default="", editable=False)
    created_at = models.DateTimeField(_("created at"), editable=False)
    updated_at = models.DateTimeField(_("changed at"), editable=False)

    objects = WebhookEndpointQuerySet.as_manager()
    # By the database's clock, for whoever sends: see ``find_endpoint``.
    read_at: datetime

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        constraints = (
            models.CheckConstraint(
                condition=Q(active=True, disabled_at__isnull=True) | Q(active=False, disabled_at__isnull=False),
                name="wfe_webhook_disabled_since",
            ),
        )

    def __str__(self) -> str:
        return self.description or self.host

    @property
    def subscriber(self) -> str:
        """The name under which it hears of events."""
        return f"{PREFIX}{self.pk}"

    @property
    def host(self) -> str:
        """Where it is, without what may be secret in its address."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def live_secrets(self, now: datetime) -> tuple[str, ...]:
        """Return the secrets that sign, the newest first."""
        both = self.previous_secret and self.previous_until is not None and now < self.previous_until
        return (self.secret, self.previous_secret) if both else (self.secret,)


class WebhookDelivery(models.Model):
    """One request to a webhook. No database foreign keys: appending locks nothing and waits for nobody."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_constraint=False, db_index=False
    )
    # The same at every try of an event.
    event_id = models.CharField(_("event id"), max_length=60)
    type = models.CharField(_("type"), max_length=50)
    # None: a test. The run may be deleted before this row is.
    run_id = models.UUIDField(_("run"), null=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    delivered = models.BooleanField(_("delivered"))
    # None: there was no answer.
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"), default=0)
    error = models.CharField(_("error"), max_length=500, default="")
    # Its beginning.
    response = models.TextField(_("response"), default="")
    # Without its query.
    url = models.CharField(_("URL"), max_length=MOST_URL)
    sent_at = models.DateTimeField(_("sent at"))

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=["endpoint", "id"], name="wfe_webhook_delivery_of"),
            models.Index(fields=["sent_at"], name="wfe_webhook_delivery_age"),
        )

    def __str__(self) -> str:
        return f"{self.type} → {self.url}"
