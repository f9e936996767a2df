"""Stage runs: one unit of work of a run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from workflow_engine.ids import uuid7
from workflow_engine.statuses import FINISHED_STAGE, OPEN_STAGE, UNFINISHED_STAGE, RunStatus, StageStatus, WaitKind

from .base import HELD_BACK, constant, lock_rows
from .compiled import padded, rows_of
from .guarded import change_guarded
from .payloads import Envelope
from .runs import DEFAULT_PRIORITY, WorkflowRun
from .stage_changes import StageChanges
from .suspensions import Suspendable, SuspendedRows
from .workers import WorkerHeartbeat

NOT_AN_ITEM = -1
_IN_ORDER = ("stage_number", "map_index", "id")
# In the order of the model's fields, as ``from_db`` takes them.
_SMALL = (
    "id",
    "run_id",
    "stage",
    "group_number",
    "stage_number",
    "map_index",
    "generation",
    "queue",
    "priority",
    "status",
    "due_at",
    "attempt",
    "token",
    "worker",
    "alone",
    "suspect",
    "conditional",
    "failures",
    "crashes",
)


class StageRunQuerySet(SuspendedRows):
    """Reads of stage runs, and the guarded changes of several rows at once."""

    def current(self) -> StageRunQuerySet:
        """The rows that count: not superseded by a rerun."""
        return self.filter(superseded_at__isnull=True)

    def stages(self) -> StageRunQuerySet:
        """One row per stage: those of a map's items are left out."""
        return self.filter(map_index=NOT_AN_ITEM)

    def of_kind(self, *, items: bool, others: bool) -> StageRunQuerySet:
        """Leave out items of maps, or everything else."""
        if items and others:
            return self
        return self.filter(map_index__gt=NOT_AN_ITEM) if items else self.stages()

    def in_order(self) -> StageRunQuerySet:
        return self.order_by("group_number", "stage_number", "map_index", "id")

    def due(self, now: Any, queues: list[str] | None) -> StageRunQuerySet:
        """Stages that may start now, the first to start first; ``queues`` None: of every queue."""
        # No rank is after its due time, so the index need not be read past now: waiting retries cost nothing.
        rows = self.filter(status=constant(StageStatus.PENDING), due_at__lte=now, rank_at__lte=now)
        if queues is not None:
            rows = rows.filter(queue__in=queues)
        return rows.order_by("rank_at", "id")

    def startable(
        self, now: Any, queues: list[str] | None, workflows: list[str], *, paused: frozenset[str] = frozenset()
    ) -> StageRunQuerySet:
        """``due``, outside of ``paused`` queues, of unpaused running runs of ``workflows``."""
        rows = self.due(now, queues if queues is None else [queue for queue in queues if queue not in paused])
        if paused and queues is None:
            rows = rows.exclude(queue__in=sorted(paused))
        return rows.filter(run__status=RunStatus.RUNNING, run__paused_at__isnull=True, run__workflow__in=workflows)

    def orphaned(self, alive_after: Any) -> StageRunQuerySet:
        """Stages that run, or are checked, by workers whose lease was over at ``alive_after`` (or who left no row), or
        of which is known that they have ended."""
        workers = WorkerHeartbeat.objects.using(self.db).filter(pk=OuterRef("worker"))
        alive = workers.filter(lease_until__gte=alive_after, stopped_at__isnull=True)
        return self.held().exclude(Exists(alive))

    def held(self) -> StageRunQuerySet:
        """Stages that a worker holds: their body runs, or the completion of what it began is being checked."""
        return self.filter(worker__isnull=False, status__in=(StageStatus.RUNNING, StageStatus.SUSPENDED))

    def show_progress(self, pk: uuid.UUID, token: int, progress: dict[str, Any]) -> bool | None:
        """Replace the progress of an attempt or a check; False: its token is void, None: its row is locked just now."""
        rows = self.held().filter(pk=pk, token=token)
        with transaction.atomic(using=self.db):
            # Never waiting: a caller may keep its transaction open, and one run must not hold up the others' lines.
            if lock_rows(rows, skip_locked=True).values_list("pk").first() is not None:
                return bool(rows.update(progress=progress))
        return None if rows.exists() else False

    def small(
        self, key: Hashable, build: Callable[[], StageRunQuerySet], params: Sequence[Any] | None = None
    ) -> list[StageRun]:
        """Return the rows of a query that is compiled once (see ``rows_of``), without what is large in them."""
        rows = rows_of(self.db, key, lambda: build().values_list(*_SMALL), params)
        return [StageRun.from_db(self.db, _SMALL, row) for row in rows]

    def unfinished(self, runs: Sequence[uuid.UUID]) -> list[StageRun]:
        """Return the current stages of runs that have not succeeded, in order, without what is large in them."""
        using = self.db
        stored = StageRun._meta.get_field("run").get_db_prep_save
        wanted = [stored(run_id, connections[using]) for run_id in padded(runs)]

        def build() -> StageRunQuerySet:
            rows = StageRun.objects.using(using).current().filter(run_id__in=[uuid.uuid4() for _ in wanted])
            # What becomes of a map is decided by its counts, and stands in the row of the stage itself.
            return rows.filter(status__in=UNFINISHED_STAGE).stages().order_by(*_IN_ORDER)

        return self.small(("unfinished", len(wanted)), build, [*wanted, *UNFINISHED_STAGE, NOT_AN_ITEM])

    def held_back(self, run_id: uuid.UUID, stage: str, generation: int, first: int, most: int) -> list[StageRun]:
        """Return the next items of a map that were not let go, with what they are, from index ``first`` on."""
        rows = self.filter(run=run_id, stage=stage, generation=generation, map_index__gte=first)
        rows = rows.filter(status=StageStatus.PENDING, due_at=HELD_BACK).order_by("map_index")
        return list(rows.only(*_SMALL, "item")[:most])

    def let_go(self, ids: Sequence[uuid.UUID], *, due_at: datetime, rank_at: datetime) -> None:
        """Let items that were held back be due; the run's lock is held."""
        if ids:
            self.filter(pk__in=ids, status=StageStatus.PENDING).update(due_at=due_at, rank_at=rank_at)

    def start_all(
        self, rows: Sequence[StageRun], *, worker: uuid.UUID, at: datetime, alone: bool, **columns: Any
    ) -> list[StageRun]:
        """``start`` for many rows by one statement, which sets ``columns`` too; return those that started."""
        started = change_guarded(
            self.db,
            [{"id": row.pk, "held_token": row.token} for row in rows],
            leaving=StageStatus.PENDING,
            common={
                "status": StageStatus.RUNNING,
                "worker": worker,
                "alone": alone,
                "started_at": at,
                "progress": None,
                "unknown_since": None,
                **columns,
            },
            counted=("token", "attempt"),
        )
        found = [row for row in rows if row.pk in started]
        for row in found:
            row.status, row.worker, row.alone, row.started_at = StageStatus.RUNNING, worker, alone, at
            row.token, row.attempt, row.progress = row.token + 1, row.attempt + 1, None
        return found

    def complete_all(
        self, ended: Iterable[tuple[uuid.UUID, int, dict[str, Any], dict[str, Any]]], *, at: datetime
    ) -> set[uuid.UUID]:
        """``complete`` for (id, token, output, metrics) by one statement; return those whose token still counted."""
        rows = [
            {"id": pk, "held_token": token, "output": output, "metrics": metrics or None}
            for pk, token, output, metrics in ended
        ]
        return change_guarded(
            self.db,
            rows,
            leaving=StageStatus.RUNNING,
            common={"status": StageStatus.COMPLETED, "worker": None, "finished_at": at, "error": None},
            own=("output", "metrics"),
        )

    def cancel_open(self, run: WorkflowRun, now: Any) -> int:
        """Cancel every open stage of a run whose lock is held; their tokens are void from here on."""
        return self.filter(run=run, status__in=OPEN_STAGE).cancel(now)

    def cancel(self, now: Any) -> int:
        """Cancel these open stages of a run whose lock is held."""
        return self.filter(status__in=OPEN_STAGE).update(
            status=StageStatus.CANCELLED, finished_at=now, worker=None, token=F("token") + 1
        )

    def supersede(self, run: WorkflowRun, group_number: int, now: Any) -> int:
        """Let the rows of a group and of later ones count no more; the lock of the run, which has ended, is held."""
        return (
            self.current()
            .filter(run=run, group_number__gte=group_number)
            .update(superseded_at=now, token=F("token") + 1)
        )


class StageRun(StageChanges, Suspendable):
    """One unit of work of a run. Only the engine's commands change it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="stage_runs", db_index=False)
    stage = models.CharField(_("stage"), max_length=100)
    group_number = models.PositiveSmallIntegerField(_("group"))
    stage_number = models.PositiveSmallIntegerField(_("number"))
    map_index = models.IntegerField(default=NOT_AN_ITEM, editable=False)
    generation = models.PositiveIntegerField(_("generation"), default=0)
    superseded_at = models.DateTimeField(null=True, editable=False)
    queue = models.CharField(_("queue"), max_length=100)
    priority = models.PositiveSmallIntegerField(_("priority"), default=DEFAULT_PRIORITY)
    status = models.CharField(_("status"), max_length=16, choices=StageStatus, default=StageStatus.PENDING)
    due_at = models.DateTimeField(_("due at"))
    rank_at = models.DateTimeField(editable=False)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    # The fencing token of the attempt: it only ever grows, and stands in the WHERE of every later write.
    token = models.PositiveBigIntegerField(default=0, editable=False)
    worker = models.UUIDField(_("worker"), null=True)
    # The body runs alone in its process: only such crashes count against it.
    alone = models.BooleanField(default=False, editable=False)
    # It ran when a process with several stages died, so it runs alone from now on.
    suspect = models.BooleanField(_("suspect"), default=False)
    # Its plan has a condition for it, which is decided before its first attempt.
    conditional = models.BooleanField(default=False, db_default=False, editable=False)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    crashes = models.PositiveIntegerField(_("crashes"), default=0)
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    config = models.JSONField(_("config"), default=dict)
    # The envelope of the item, for a row of a mapped stage.
    item = models.JSONField(null=True, editable=False)
    output = models.JSONField(null=True, editable=False)
    error = models.JSONField(_("error"), null=True)
    metrics = models.JSONField(_("metrics"), null=True)
    progress = models.JSONField(_("progress"), null=True)
    # What a suspended stage waits for (``WaitKind``): the name of the wait or timer, since and until when.
    wait_kind = models.CharField(_("waits for"), max_length=8, choices=WaitKind, default="", db_default="")
    wait_name = models.CharField(_("name of the wait"), max_length=100, default="", db_default="")
    suspended_at = models.DateTimeField(_("suspended at"), null=True)
    wait_until = models.DateTimeField(_("waits until"), null=True)
    # When something is due for it: the next check, the end of the timer, the deadline; None: only an answer helps.
    wake_at = models.DateTimeField(_("wakes at"), null=True)
    # What ``ctx.suspend`` was given, as an envelope; the seconds between two checks; checks made and failed.
    state = models.JSONField(null=True, editable=False)
    poll_every = models.FloatField(null=True, editable=False)
    polls = models.PositiveIntegerField(_("checks"), default=0, db_default=0)
    check_errors = models.PositiveIntegerField(_("failed checks"), default=0, db_default=0)
    # Since when no living worker knows the stage.
    unknown_since = models.DateTimeField(null=True, editable=False)

    objects = StageRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("stage run")
        verbose_name_plural = _("stage runs")
        default_permissions = ("view",)
        permissions = (("answer_stagerun", "Can answer waiting stages"),)
        constraints = (
            models.UniqueConstraint(fields=["run", "stage", "map_index", "generation"], name="wfe_stage_once"),
            models.CheckConstraint(condition=Q(status__in=StageStatus.values), name="wfe_stage_status_known"),
            models.CheckConstraint(
                condition=~Q(status=StageStatus.RUNNING) | Q(worker__isnull=False, token__gte=1),
                name="wfe_stage_running_has_worker",
            ),
            models.CheckConstraint(
                condition=Q(status__in=FINISHED_STAGE, finished_at__isnull=False)
                | Q(status__in=OPEN_STAGE, finished_at__isnull=True),
                name="wfe_stage_finished_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(status=StageStatus.SUSPENDED)
                | Q(wait_kind__in=WaitKind.values, suspended_at__isnull=False),
                name="wfe_stage_suspended_has_wait",
            ),
        )
        indexes = (
            # Taking work: due stages by rank.
            models.Index(
                fields=["rank_at", "id"],
                condition=Q(status=StageStatus.PENDING),
                name="wfe_stage_due",
            ),
            # How long nothing will be due: retries that wait for their time.
            models.Index(fields=["due_at"], condition=Q(status=StageStatus.PENDING), name="wfe_stage_next"),
            # Suspects, which are few and wait for an idle worker.
            models.Index(
                fields=["rank_at"], condition=Q(status=StageStatus.PENDING, suspect=True), name="wfe_stage_suspect"
            ),
            # Beats, drains and the reaper: what runs or is being checked, by worker.
            models.Index(fields=["worker"], condition=Q(worker__isnull=False), name="wfe_stage_held"),
            # Suspended stages by the time at which something is due for them.
            models.Index(
                fields=["wake_at"],
                condition=Q(status=StageStatus.SUSPENDED, wake_at__isnull=False),
                name="wfe_stage_wake",
            ),
        )

    def __str__(self) -> str:
        return f"{self.stage} ({self.status})"

    @property
    def stage_id(self) -> str:
        return self.stage

    @property
    def item_index(self) -> int | None:
        return None if self.map_index == NOT_AN_ITEM else self.map_index

    @property
    def due_time(self) -> datetime | None:
        """When it is due, or was; None for an item that is held back until others have ended."""
        return None if self.due_at == HELD_BACK else self.due_at

    @property
    def wake_time(self) -> datetime | None:
        """When something is due for a suspended stage; None while it waits for its items, or for another run."""
        return None if self.wait_kind in (WaitKind.ITEMS, WaitKind.CHILD) else self.wake_at

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED_STAGE

    def get_output(self) -> Any:
        """Return the output as JSON, None if there is none. Raises ``BlobNotFound`` if its blob is gone."""
        return Envelope(self.output).open()
