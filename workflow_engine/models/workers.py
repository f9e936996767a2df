"""Workers: one row per process, which holds its lease."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class WorkerHeartbeatQuerySet(models.QuerySet["WorkerHeartbeat"]):
    def alive(self, now: Any) -> WorkerHeartbeatQuerySet:
        return self.filter(lease_until__gte=now, stopped_at__isnull=True)


class WorkerHeartbeat(models.Model):
    """A worker process. ``id`` is a boot uuid: a restarted process is another worker, whatever its host's name."""

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(_("name"), max_length=200)
    host = models.CharField(_("host"), max_length=200)
    pid = models.PositiveIntegerField(_("process id"))
    version = models.CharField(_("engine version"), max_length=50)
    queues = models.JSONField(_("queues"), null=True)
    workflows = models.JSONField(_("workflows"), default=list)
    # Workflow id -> ids of its stages, as this process's code has them.
    stages = models.JSONField(_("stages"), default=dict)
    slots = models.PositiveSmallIntegerField(_("slots"))
    running = models.PositiveSmallIntegerField(_("running"), default=0)
    checking = models.PositiveSmallIntegerField(_("checks under way"), default=0, db_default=0)
    zombies = models.PositiveSmallIntegerField(_("zombie threads"), default=0)
    started_at = models.DateTimeField(_("started at"))
    beat_at = models.DateTimeField(_("last beat"))
    lease_until = models.DateTimeField(_("lease until"))
    stopped_at = models.DateTimeField(_("stopped at"), null=True)

    objects = WorkerHeartbeatQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["lease_until"], name="wfe_worker_lease"),)

    def __str__(self) -> str:
        return self.name

    @property
    def has_died(self) -> bool:
        """Whether it has ended without a last beat, and its supervisor knew that."""
        return self.stopped_at is not None and self.beat_at < self.stopped_at
