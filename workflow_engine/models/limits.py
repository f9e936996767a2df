"""Limits on runs: a row to lock per limit, and the place of every run that is counted by one."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext_lazy as _

from workflow_engine.statuses import OPEN_RUN, PlaceStatus, RunStatus

from .base import HELD_BACK, constant, rank
from .runs import WorkflowRun


def limit_id(workflow_id: str, key: str) -> str:
    """Return what stands for a workflow and a key: exact on every collation."""
    return hashlib.sha256(f"{workflow_id}\0{key}".encode()).hexdigest()


class RunLimit(models.Model):
    """The limit of one workflow and key. Whoever gives places holds this row locked, and counts ``RunPlace`` rows."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    workflow = models.CharField(_("workflow"), max_length=100)
    # Empty: one limit for all runs of the workflow.
    key = models.CharField(_("key"), max_length=200, default="", blank=True)
    # As the code said when places were given last: so many at the same time, and so many begun within so long.
    most = models.PositiveIntegerField(_("at the same time"), null=True)
    rate = models.PositiveIntegerField(_("may begin"), null=True)
    per = models.DurationField(_("within"), null=True)
    # When the rate lets the next one begin, and a notice is due for it.
    next_at = models.DateTimeField(_("next at"), null=True)

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["workflow"], name="wfe_limit_workflow"),)

    def __str__(self) -> str:
        return f"{self.workflow} {self.key}".rstrip()


class RunPlaceQuerySet(models.QuerySet["RunPlace"]):
    """Places of runs. They change under the lock of their limit, or of their run."""

    def of(self, limit: str) -> RunPlaceQuerySet:
        return self.filter(limit=limit)

    def waiting(self) -> RunPlaceQuerySet:
        """Places that are wanted, the first to give first."""
        return self.filter(status=constant(PlaceStatus.WAITING)).order_by("rank_at", "run_id")

    def wanted(self, now: Any) -> RunPlaceQuerySet:
        """Places that are wanted now, by runs that may begin."""
        return self.waiting().filter(wanted_at__lte=now, run__paused_at__isnull=True, run__status__in=OPEN_RUN)

    def held(self) -> RunPlaceQuerySet:
        return self.filter(status=constant(PlaceStatus.HELD))

    def give(self, runs: Collection[uuid.UUID], at: datetime) -> int:
        """WAITING → HELD."""
        return self.filter(pk__in=runs, status=PlaceStatus.WAITING).update(status=PlaceStatus.HELD, given_at=at)

    def let_go(self, runs: Collection[uuid.UUID]) -> int:
        """Let PENDING runs whose locks are held, and that have waited for a place, be claimed."""
        if not runs:
            return 0
        mine = RunPlace.objects.using(self.db).filter(pk=OuterRef("pk"))
        held_back = WorkflowRun.objects.using(self.db).filter(pk__in=runs, status=RunStatus.PENDING, due_at=HELD_BACK)
        return held_back.update(due_at=Subquery(mine.values("wanted_at")), rank_at=Subquery(mine.values("rank_at")))

    def leave(self, runs: Collection[uuid.UUID]) -> int:
        """HELD → FREE: the runs have ended."""
        return self.filter(pk__in=runs, status=PlaceStatus.HELD).update(status=PlaceStatus.FREE) if runs else 0

    def give_up(self, runs: Collection[uuid.UUID]) -> int:
        """WAITING → FREE: the runs, whose locks are held, have ended without a place."""
        return self.filter(pk__in=runs, status=PlaceStatus.WAITING).update(status=PlaceStatus.FREE) if runs else 0

    def want_again(self, run: WorkflowRun, at: datetime, rank_at: datetime) -> bool:
        """Any → WAITING, for a run whose lock is held and that is to run again; False: no limit counts it."""
        return bool(self.filter(pk=run.pk).update(status=PlaceStatus.WAITING, wanted_at=at, rank_at=rank_at))


class RunPlace(models.Model):
    """A run of a workflow with a limit: it waits for a place, holds one, or has left it."""

    run = models.OneToOneField(
        WorkflowRun, on_delete=models.CASCADE, primary_key=True, related_name="place", db_constraint=False
    )
    limit = models.ForeignKey(
        RunLimit, on_delete=models.CASCADE, related_name="places", db_constraint=False, db_index=False
    )
    workflow = models.CharField(_("workflow"), max_length=100)
    key = models.CharField(_("key"), max_length=200, default="", blank=True)
    status = models.CharField(_("status"), max_length=8, choices=PlaceStatus, default=PlaceStatus.WAITING)
    # From when on the run wants it.
    wanted_at = models.DateTimeField(_("wanted from"))
    rank_at = models.DateTimeField(editable=False)
    priority = models.PositiveSmallIntegerField(editable=False)
    given_at = models.DateTimeField(_("given at"), null=True)

    objects = RunPlaceQuerySet.as_manager()

    class Meta:
        verbose_name = _("place")
        verbose_name_plural = _("places")
        default_permissions = ("view",)
        constraints = (
            models.CheckConstraint(condition=models.Q(status__in=PlaceStatus.values), name="wfe_place_status_known"),
        )
        indexes = (
            # Status first: the limits for which somebody waits are found by it too.
            models.Index(fields=["status", "limit", "rank_at"], name="wfe_place_line"),
            models.Index(fields=["limit"], name="wfe_place_limit"),
        )

    def __str__(self) -> str:
        return f"{self.workflow} {self.key}: {self.status}"

    @staticmethod
    def columns(
        run_id: uuid.UUID, workflow_id: str, key: str, *, wanted_at: datetime | None, priority: int
    ) -> dict[str, Any]:
        """Return the row of a new run, waiting; times as of ``UnitOfWork.time_of_new_rows``."""
        return {
            "run_id": run_id,
            "limit_id": limit_id(workflow_id, key),
            "workflow": workflow_id,
            "key": key,
            "status": PlaceStatus.WAITING,
            "wanted_at": wanted_at,
            "rank_at": wanted_at and rank(wanted_at, priority),
            "priority": priority,
            "given_at": None,
        }


class LimitStart(models.Model):
    """A run that has begun, as a rate counts it; kept as long as the rate looks back."""

    id = models.BigAutoField(primary_key=True)
    limit = models.ForeignKey(
        RunLimit, on_delete=models.CASCADE, related_name="starts", db_constraint=False, db_index=False
    )
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("start")
        verbose_name_plural = _("starts")
        default_permissions = ("view",)
        indexes = (models.Index(fields=["limit", "at"], name="wfe_start_rate"),)

    def __str__(self) -> str:
        return f"{self.limit_id[:8]} {self.at.isoformat()}"
