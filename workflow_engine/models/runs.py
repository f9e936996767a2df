"""Runs: one execution of a workflow. A narrow hot row, and a side row for what is large or seldom read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7
from workflow_engine.statuses import FINISHED_RUN, OPEN_RUN, RunStatus, StageStatus

from .base import HELD_BACK, constant, lock_rows, rank
from .payloads import Envelope

DEFAULT_PRIORITY = 5


class WorkflowRunQuerySet(models.QuerySet["WorkflowRun"]):
    """Reads of runs, and the locks that every change of a run begins with."""

    def for_workflow(self, workflow: Any) -> WorkflowRunQuerySet:
        """Runs of one workflow, given as definition or id."""
        return self.filter(workflow=getattr(workflow, "id", workflow))

    def open(self) -> WorkflowRunQuerySet:
        return self.filter(status__in=OPEN_RUN)

    def failed(self) -> WorkflowRunQuerySet:
        return self.filter(status=RunStatus.FAILED)

    def for_subject(self, subject: models.Model) -> WorkflowRunQuerySet:
        """Runs about this row."""
        content_type = ContentType.objects.db_manager(self.db).get_for_model(subject)
        return self.filter(subject_type=content_type, subject_id=str(subject.pk))

    def claimable(self, now: Any, workflows: list[str]) -> WorkflowRunQuerySet:
        """Runs that a worker knowing ``workflows`` may claim now, the first to claim first."""
        return self.waiting(now).filter(workflow__in=workflows)

    def waiting(self, now: Any) -> WorkflowRunQuerySet:
        """Unpaused runs that are due to begin, of whatever workflow."""
        due = self.filter(status=constant(RunStatus.PENDING), paused_at__isnull=True, due_at__lte=now)
        # No rank is after its due time, so the index need not be read past now: later starts cost nothing.
        return due.filter(rank_at__lte=now).order_by("rank_at", "id")

    def overdue(self, now: Any) -> WorkflowRunQuerySet:
        """Running runs whose time is over, the longest first."""
        return self.filter(status=constant(RunStatus.RUNNING), deadline_at__lte=now).order_by("deadline_at", "id")

    def pause(self, run: WorkflowRun, now: Any) -> bool:
        """Pause an open run whose lock is held; False if it is paused already, or has ended."""
        return bool(self.filter(pk=run.pk, status__in=OPEN_RUN, paused_at__isnull=True).update(paused_at=now))

    def resume(self, run: WorkflowRun) -> bool:
        """Let a paused run whose lock is held go on; False if it is not paused."""
        return bool(self.filter(pk=run.pk, paused_at__isnull=False).update(paused_at=None))

    def locked(self, run_id: uuid.UUID, *, skip_locked: bool = False) -> WorkflowRun | None:
        """Lock one run, with its plan and config; None if there is none (or, skipping, if it is locked)."""
        return lock_rows(self.filter(pk=run_id).select_related("data"), skip_locked=skip_locked).first()


# What a change of a run decides by, in the order of the fields; the side row does not change within a generation.
HOT_COLUMNS = (
    "id",
    "workflow",
    "status",
    "priority",
    "generation",
    "event_seq",
    "rank_at",
    "started_at",
    "paused_at",
    "total_cost",
    "total_tokens",
    "parent_run_id",
    "parent_stage_run_id",
)
DATA_COLUMNS = ("plan", "config", "input", "metadata")


class WorkflowRun(models.Model):
    """One execution of a workflow. Only the engine's commands change it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.CharField(_("workflow"), max_length=100)
    version = models.CharField(_("version"), max_length=50)
    status = models.CharField(_("status"), max_length=16, choices=RunStatus, default=RunStatus.PENDING)
    priority = models.PositiveSmallIntegerField(_("priority"), default=DEFAULT_PRIORITY)
    generation = models.PositiveIntegerField(_("generation"), default=0)
    event_seq = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(_("created at"))
    due_at = models.DateTimeField(_("due at"))
    rank_at = models.DateTimeField(editable=False)
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    paused_at = models.DateTimeField(_("paused at"), null=True)
    # The end of the workflow's timeout; only while it runs.
    deadline_at = models.DateTimeField(_("deadline"), null=True)
    # Since when no living worker knows its workflow.
    unknown_since = models.DateTimeField(null=True, editable=False)
    # Sums of the metrics ``cost`` and ``tokens`` of its current stages.
    total_cost = models.FloatField(_("total cost"), default=0, db_default=0)
    total_tokens = models.BigIntegerField(_("total tokens"), default=0, db_default=0)
    error = models.JSONField(_("error"), null=True)
    subject_type = models.ForeignKey(
        ContentType, on_delete=models.SET_NULL, null=True, db_constraint=False, db_index=False, related_name="+"
    )
    subject_id = models.CharField(max_length=100, default="")
    subject = GenericForeignKey("subject_type", "subject_id")
    # The run and its stage that wait for this one, if it was started by another run.
    parent_run = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, db_constraint=False, db_index=False, related_name="child_runs"
    )
    parent_stage_run = models.ForeignKey(
        "workflow_engine.StageRun",
        on_delete=models.SET_NULL,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="child_runs",
    )
    # The first of its line, None if it is that itself; and how many lie between: 0 for a run that nobody has started.
    root_run = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, db_constraint=False, db_index=False, related_name="+"
    )
    depth = models.PositiveSmallIntegerField(_("depth"), default=0, db_default=0)

    objects = WorkflowRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        default_permissions = ("view", "add")
        permissions = (
            ("cancel_workflowrun", "Can cancel runs"),
            ("rerun_workflowrun", "Can rerun runs"),
            ("pause_workflowrun", "Can pause and resume runs, workflows and queues"),
            ("view_payload", "Can see inputs and outputs"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="wfe_run_status_known"),
            models.CheckConstraint(condition=Q(priority__lte=10), name="wfe_run_priority_0_to_10"),
            models.CheckConstraint(
                condition=Q(status__in=FINISHED_RUN, finished_at__isnull=False)
                | Q(status__in=OPEN_RUN, finished_at__isnull=True),
                name="wfe_run_finished_has_time",
            ),
        )
        indexes = (
            # The claim: due, unpaused runs by rank.
            models.Index(
                fields=["rank_at", "id"],
                condition=Q(status=RunStatus.PENDING, paused_at__isnull=True),
                name="wfe_run_claim",
            ),
            # How long nothing will be due: runs that start later.
            models.Index(
                fields=["due_at"], condition=Q(status=RunStatus.PENDING, paused_at__isnull=True), name="wfe_run_next"
            ),
            # Janitors and "what is going on": the runs that live.
            models.Index(fields=["started_at"], condition=Q(status=RunStatus.RUNNING), name="wfe_run_running"),
            models.Index(
                fields=["deadline_at"],
                condition=Q(status=RunStatus.RUNNING, deadline_at__isnull=False),
                name="wfe_run_deadline",
            ),
            models.Index(fields=["workflow", "-id"], name="wfe_run_workflow"),
            models.Index(
                fields=["subject_type", "subject_id"],
                condition=Q(subject_type__isnull=False),
                name="wfe_run_subject",
            ),
            models.Index(
                fields=["parent_stage_run"], condition=Q(parent_stage_run__isnull=False), name="wfe_run_parent"
            ),
            models.Index(fields=["parent_run"], condition=Q(parent_run__isnull=False), name="wfe_run_children"),
            models.Index(fields=["root_run"], condition=Q(root_run__isnull=False), name="wfe_run_root"),
        )

    def __str__(self) -> str:
        return f"{self.workflow} {str(self.pk)[:13]}"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # False on the row that create_run returns for a replayed idempotency key.
        self.was_created = True

    @property
    def workflow_id(self) -> str:
        return self.workflow

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED_RUN

    @property
    def plan(self) -> dict[str, Any]:
        """The groups of stage ids that this run follows, as they were when it was created."""
        plan: dict[str, Any] = self.data.plan
        return plan

    @property
    def metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self.data.metadata
        return metadata

    def keep_data(self, data: RunData) -> None:
        """Take the side row from somebody who has read it in this generation."""
        self._state.fields_cache["data"] = data

    def get_input(self) -> Any:
        """Return the validated input as JSON. Raises ``BlobNotFound`` if its blob is gone."""
        return Envelope(self.data.input).open()

    def get_output(self) -> Any:
        """Return the last group's output as JSON, or None before the run is completed.

        If its only stage was skipped: what that would have got, the output of the group before.
        """
        if self.status != RunStatus.COMPLETED:
            return None
        for group in reversed(self.plan["groups"]):
            stages = [item["id"] for item in group["stages"]]
            rows = self.stage_runs.filter(stage__in=stages, superseded_at__isnull=True, status=StageStatus.COMPLETED)
            rows = rows.filter(map_index=-1)
            outputs = {row.stage: row.get_output() for row in rows}
            if len(stages) > 1:
                return {stage.replace("-", "_"): outputs[stage] for stage in stages if stage in outputs}
            if outputs:
                return outputs[stages[0]]
        return self.get_input()

    @property
    def output_group(self) -> int:
        """Number of the group whose output is the run's; 0: everything was skipped, so it is the input."""
        done = self.stage_runs.filter(superseded_at__isnull=True, status=StageStatus.COMPLETED, map_index=-1)
        completed = set(done.values_list("stage", flat=True))
        groups = self.plan["groups"]
        for number in range(len(groups), 0, -1):
            stages = [item["id"] for item in groups[number - 1]["stages"]]
            if len(stages) > 1 or stages[0] in completed:
                return number
        return 0

    @property
    def due_time(self) -> datetime | None:
        """From when on it may begin; None while it waits for a place of its workflow's limit."""
        return None if self.due_at == HELD_BACK else self.due_at

    def set_deadline(self, at: datetime) -> bool:
        """Let the time of a RUNNING run whose lock is held be over then."""
        rows = WorkflowRun.objects.using(self._state.db).filter(pk=self.pk, status=RunStatus.RUNNING)
        return bool(rows.update(deadline_at=at))

    def mark_unknown(self, since: datetime | None) -> bool:
        """No living worker has known the workflow since then (None: one does); only while the run is open."""
        rows = WorkflowRun.objects.using(self._state.db).filter(pk=self.pk, status__in=OPEN_RUN)
        return bool(rows.update(unknown_since=since))

    # Status changes are one UPDATE that names the statuses it may leave and carries the event numbers.

    @staticmethod
    def change_all(
        runs: Sequence[WorkflowRun],
        status: RunStatus | None,
        *,
        leaving: tuple[RunStatus, ...],
        events: int,
        **columns: Any,
    ) -> bool:
        """Change runs alike; ``status`` None only takes their next event numbers. False unless all could change."""
        rows = WorkflowRun.objects.using(runs[0]._state.db).filter(pk__in=[run.pk for run in runs])
        if status is not None:
            rows = rows.filter(status__in=leaving)
            columns["status"] = status
        if rows.update(event_seq=F("event_seq") + events, **columns) != len(runs):
            return False
        for run in runs:
            for name, value in columns.items():
                setattr(run, name, value)
            run.event_seq += events
        return True

    def begin_again(self, *, at: datetime, deadline_at: datetime | None, cost: float, tokens: int) -> bool:
        """Ended → RUNNING, in the next generation; the lock is held. False if it has not ended or was rerun meanwhile.

        It starts, and is ranked, as from now; nothing of its end is left.
        """
        rows = WorkflowRun.objects.using(self._state.db).filter(
            pk=self.pk, generation=self.generation, status__in=FINISHED_RUN
        )
        columns: dict[str, Any] = {
            "status": RunStatus.RUNNING,
            "generation": self.generation + 1,
            "started_at": at,
            "rank_at": rank(at, self.priority),
            "deadline_at": deadline_at,
            "total_cost": cost,
            "total_tokens": tokens,
            **dict.fromkeys(("finished_at", "error", "paused_at", "unknown_since")),
        }
        if not rows.update(**columns):
            return False
        for name, value in columns.items():
            setattr(self, name, value)
        return True


def family(path: str, run_id: uuid.UUID) -> Q:
    """Return the condition that ``path`` leads to this run, or to one that it has started, directly or not.

    ``path``: name of a foreign key to runs; empty: the rows are runs themselves.
    """
    key, start = (path, f"{path}__") if path else ("pk", "")
    return Q(**{key: run_id}) | Q(**{f"{start}root_run": run_id}) | Q(**{f"{start}parent_run": run_id})


class RunData(models.Model):
    """What is large or seldom read of a run, beside the hot row: input, config, plan, metadata."""

    run = models.OneToOneField(WorkflowRun, on_delete=models.CASCADE, primary_key=True, related_name="data")
    plan = models.JSONField()
    config = models.JSONField()
    input = models.JSONField()
    metadata = models.JSONField(default=dict)
    cancel_reason = models.TextField(default="")
    created_by = models.CharField(max_length=150, default="")

    class Meta:
        verbose_name = _("run data")
        verbose_name_plural = _("run data")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.run_id)

    def config_of(self, stage_id: str) -> Mapping[str, Any]:
        return self.config.get(stage_id, {})  # type: ignore[no-any-return]
