"""Schedules: which workflow runs at which times, and each time that came."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7
from workflow_engine.statuses import OPEN_RUN, CatchUp, FireState, Overlap

from .base import lock_rows
from .runs import WorkflowRun


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def due(self, now: Any) -> ScheduleQuerySet:
        """Schedules to look at now, the longest waiting first."""
        return self.filter(look_at__lte=now).order_by("look_at", "id")

    def hold(self, schedule: Schedule) -> bool:
        """Lock a schedule that was read without one; False if it has changed since, is gone, or somebody holds it."""
        rows = self.filter(pk=schedule.pk, edition=schedule.edition)
        return lock_rows(rows, skip_locked=True).values_list("pk", flat=True).first() is not None

    def change(self, schedule: Schedule, **columns: Any) -> bool:
        """Write columns of a schedule as it was read; False if it has changed since. Nobody decides by it any more."""
        rows = self.filter(pk=schedule.pk, edition=schedule.edition)
        return bool(rows.update(edition=F("edition") + 1, **columns))


class Schedule(models.Model):
    """A workflow that is run at the times of a cron expression. Only the engine's commands change it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100)
    workflow = models.CharField(_("workflow"), max_length=100)
    cron = models.CharField(_("cron expression"), max_length=200)
    timezone = models.CharField(_("time zone"), max_length=64)
    input = models.JSONField(_("input"), null=True)
    overlap = models.CharField(_("while a run goes on"), max_length=8, choices=Overlap, default=Overlap.SKIP)
    catch_up = models.CharField(_("missed times"), max_length=8, choices=CatchUp, default=CatchUp.ONE)
    enabled = models.BooleanField(_("enabled"), default=True)
    # The first time that nothing was done about yet; None: it is disabled, or there is none in 50 years.
    next_due_at = models.DateTimeField(_("next due at"), null=True)
    # When somebody is to look at it: then, or sooner for what waits, or later after an error.
    look_at = models.DateTimeField(null=True, editable=False)
    # Grows with every change: what was decided by an older one is not written.
    edition = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    last_fired_at = models.DateTimeField(_("last fired at"), null=True)
    last_skipped_at = models.DateTimeField(_("last skipped"), null=True)
    last_skipped_reason = models.CharField(_("why skipped"), max_length=300, default="")
    # Why nothing can be started, and how often that was tried in a row.
    error = models.TextField(_("error"), default="")
    failures = models.PositiveIntegerField(_("failures"), default=0)
    # It is declared in code, from where ``wfe_schedules sync`` has it.
    declared = models.BooleanField(_("declared in code"), default=False)
    created_by = models.CharField(_("created by"), max_length=150, default="")
    created_at = models.DateTimeField(_("created at"))
    changed_at = models.DateTimeField(_("changed at"))

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        permissions = (("run_schedule", "Can run schedules now"),)
        constraints = (
            models.UniqueConstraint(fields=["name"], name="wfe_schedule_name"),
            models.CheckConstraint(condition=Q(overlap__in=Overlap.values), name="wfe_schedule_overlap_known"),
            models.CheckConstraint(condition=Q(catch_up__in=CatchUp.values), name="wfe_schedule_catch_up_known"),
        )
        indexes = (models.Index(fields=["look_at", "id"], name="wfe_schedule_look"),)

    def __str__(self) -> str:
        return self.name

    @property
    def workflow_id(self) -> str:
        return self.workflow


class ScheduleFireQuerySet(models.QuerySet["ScheduleFire"]):
    def waiting(self, schedule_id: Any) -> ScheduleFireQuerySet:
        """Times of a schedule whose turn has not come, in their order."""
        return self.filter(schedule=schedule_id, state=FireState.WAITING).order_by("due_at")

    def under_way(self, schedule_id: Any) -> ScheduleFireQuerySet:
        """Times of a schedule whose runs have not ended."""
        return self.filter(schedule=schedule_id, state=FireState.STARTED, run__status__in=OPEN_RUN)

    def over(self, schedule_id: Any) -> ScheduleFireQuerySet:
        """Times of a schedule that count as started, and whose runs have ended or are gone."""
        living = WorkflowRun.objects.using(self.db).filter(pk=models.OuterRef("run_id"), status__in=OPEN_RUN)
        return self.filter(schedule=schedule_id, state=FireState.STARTED).exclude(models.Exists(living))

    def settle(self, ids: Collection[int]) -> int:
        """STARTED → ENDED: nobody asks after their runs again."""
        return self.filter(pk__in=ids, state=FireState.STARTED).update(state=FireState.ENDED)

    def begin(self, fire_id: int, run_id: Any, at: datetime) -> bool:
        """WAITING → STARTED; False if it does not wait any more."""
        rows = self.filter(pk=fire_id, state=FireState.WAITING)
        return bool(rows.update(state=FireState.STARTED, run=run_id, fired_at=at))

    def wait(self, schedule_id: Any, times: Iterable[datetime]) -> None:
        """Let these times of a schedule wait for their turn."""
        rows = [ScheduleFire(schedule_id=schedule_id, due_at=due_at, state=FireState.WAITING) for due_at in times]
        ScheduleFire.objects.using(self.db).bulk_create(rows)


class ScheduleFire(models.Model):
    """One time of a schedule, and the run that it has started. There is one row per time, so there is one run."""

    id = models.BigAutoField(primary_key=True)
    schedule = models.ForeignKey(
        Schedule, on_delete=models.CASCADE, related_name="fires", db_constraint=False, db_index=False
    )
    due_at = models.DateTimeField(_("due at"))
    state = models.CharField(_("state"), max_length=8, choices=FireState)
    # None while it waits.
    run = models.ForeignKey(
        WorkflowRun,
        on_delete=models.CASCADE,
        related_name="schedule_fires",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    fired_at = models.DateTimeField(_("fired at"), null=True)
    # Somebody has asked for it; the cron expression has not.
    by_hand = models.BooleanField(_("by hand"), default=False)

    objects = ScheduleFireQuerySet.as_manager()

    class Meta:
        verbose_name = _("time of a schedule")
        verbose_name_plural = _("times of schedules")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(fields=["schedule", "due_at"], name="wfe_fire_once"),
            models.CheckConstraint(condition=Q(state__in=FireState.values), name="wfe_fire_state_known"),
        )
        indexes = (
            models.Index(fields=["schedule", "state", "due_at"], name="wfe_fire_state"),
            models.Index(fields=["run"], name="wfe_fire_run"),
            models.Index(fields=["due_at"], name="wfe_fire_age"),
        )

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at.isoformat()}"
