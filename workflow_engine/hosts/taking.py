"""What to take next: due stages and pending runs, the earlier in rank first."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from django.db import Error
from django.db.models import DateTimeField, Exists, ExpressionWrapper, QuerySet, Subquery

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, StartStages
from workflow_engine.kernel.commands.start_stages import loop_stages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import Pause, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.models.compiled import rows_of
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import RunStatus, StageStatus

logger = logging.getLogger(__name__)
# A suspect that is due for this long makes a busy worker stop taking work until it is idle and can run it alone.
SUSPECT_PATIENCE_SECONDS = 2.0
# Runs claimed in one transaction.
MOST_CLAIMED = 100
Kind = Literal["any", "slot", "loop"]
# Stand for the ids in statements that are compiled once for all workers.
THIS_WORKER, THIS_RUN = uuid.UUID(int=1), uuid.UUID(int=2)
SINCE_LOOK = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Room:
    """What kind of places is free, and which workflows begin in such (None: any)."""

    starter: Starter
    kind: Kind
    workflows: tuple[str, ...] | None


class Taker:
    """Asks one cheap statement whether there is anything, then takes as much as there are free slots."""

    def __init__(self, kernel: Kernel, run_id: uuid.UUID | None, worker_id: uuid.UUID) -> None:
        self._kernel, self._run_id, self._worker_id = kernel, run_id, worker_id
        self._alone: uuid.UUID | None = None
        self._suspect_since: float | None = None
        # Whether the last look found anything due, taken or not.
        self.saw_work = False

    @property
    def makes_room(self) -> bool:
        """A suspect has waited long enough: this process takes nothing else until it runs it, alone."""
        return self._suspect_since is not None and time.monotonic() - self._suspect_since > SUSPECT_PATIENCE_SECONDS

    @property
    def runs_alone(self) -> bool:
        return self._alone is not None

    def take(self, starter: Starter, running: int) -> list[StartedStage]:
        """Return the attempts started for this worker; an empty list if there is nothing to do."""
        self.saw_work = False
        if running == 0:
            self._alone = None
        if self._alone is not None:
            return []
        rooms = self._rooms(starter)
        looks = [self._look(room) for room in rooms]
        self.saw_work = any(stage is not None or run is not None or suspect for stage, run, suspect in looks)
        made_room = self.makes_room
        waits = any(suspect for _, _, suspect in looks)
        if waits or len(rooms) == 2 or any(room.kind == "any" for room in rooms):
            # Where only one kind of place is free, only that kind of suspects was asked for.
            self._note_suspect(waits, running)
        if running and self.makes_room:
            return []
        if not running:
            for room, (_, _, suspect) in zip(rooms, looks, strict=True):
                taken = self._take_stages(room.starter, room.kind, idle=True, suspects_only=True) if suspect else []
                if len(taken) == 1 and taken[0].alone and starter.room > 1:
                    self._alone = taken[0].stage_run_id
                if taken:
                    return taken
            if made_room and any(suspect for _, _, suspect in looks):
                return []
        taken = []
        for room, (stage_rank, run_rank, _) in zip(rooms, looks, strict=True):
            if starter.most is not None:
                room = replace(room, starter=replace(room.starter, most=starter.most - len(taken)))
            try:
                taken += self._take_rest(room, stage_rank, run_rank)
            except (WorkflowEngineError, Error) as error:
                if not taken:
                    raise
                # What was started runs here; nobody else would know.
                logger.warning("taking ended early started=%s error=%s", len(taken), error)
        return taken

    def _rooms(self, starter: Starter) -> list[_Room]:
        """Return what to ask for: one kind of place after the other, since one may be free and the other not."""
        loop_stages = self._kernel.ports.loop_stages()
        if starter.tasks is None or not loop_stages:
            return [_Room(replace(starter, tasks=None), "any", None)] if starter.slots > 0 else []
        takable = self._kernel.ports.takable_workflows()
        registered = [item for item in self._kernel.ports.registry.registered_workflows() if item.id in takable]
        on_loop = {item.id for item in registered if all(stage.runs_on_loop for stage in item.groups[0].stages)}
        in_slots = tuple(item.id for item in registered if item.id not in on_loop)
        rooms = [
            _Room(replace(starter, tasks=0), "slot", in_slots),
            _Room(replace(starter, slots=0), "loop", tuple(sorted(on_loop))),
        ]
        return [room for room in rooms if room.starter.room > 0]

    def _take_rest(self, room: _Room, stage_rank: Any, run_rank: Any) -> list[StartedStage]:
        taken: list[StartedStage] = []
        runs_first = run_rank is not None and (stage_rank is None or run_rank < stage_rank)
        for claims in (True, False) if runs_first else (False, True):
            left = room.starter.room - len(taken)
            if left <= 0:
                break
            fewer = replace(room.starter, slots=left) if not room.starter.tasks else replace(room.starter, tasks=left)
            try:
                if claims and run_rank is not None:
                    most = min(left, MOST_CLAIMED)
                    command = ClaimPendingRuns(
                        max_claims=most, run_id=self._run_id, workflows=room.workflows, starter=fewer
                    )
                    taken += self._kernel.dispatch(command).started
                elif not claims and stage_rank is not None:
                    taken += self._take_stages(fewer, room.kind, idle=False)
            except (WorkflowEngineError, Error) as error:
                if not taken:
                    raise
                # What was started runs here; nobody else would know.
                logger.warning("taking ended early started=%s error=%s", len(taken), error)
                break
        return taken

    def _take_stages(
        self, starter: Starter, kind: Kind, *, idle: bool, suspects_only: bool = False
    ) -> list[StartedStage]:
        command = StartStages(starter=starter, idle=idle, suspects_only=suspects_only, kind=kind, run_id=self._run_id)
        return list(self._kernel.dispatch(command).started)

    def _note_suspect(self, there: bool, running: int) -> None:
        if not there or not running:
            self._suspect_since = None
        elif self._suspect_since is None:
            self._suspect_since = time.monotonic()

    def _look(self, room: _Room) -> tuple[Any, Any, Any]:
        """Return (rank of the first due stage, rank of the first pending run, is a suspect due); one statement."""
        ports = self._kernel.ports
        pauses, queues = ports.glance_at_pauses(), room.starter.queues
        known, paused = ports.takable_workflows(pauses), pauses.queues

        def build() -> QuerySet[Any]:
            stages, runs = self._due(room, known, paused)
            return self._myself().values_list(
                Subquery(stages.filter(suspect=False).values("rank_at")[:1]),
                Subquery(runs.values("rank_at")[:1]),
                Exists(stages.filter(suspect=True)),
                Exists(Pause.objects.using(ports.using).all()),
            )

        on_loop = () if room.kind == "any" else tuple(sorted(ports.loop_stages().items()))
        found = self._rows(("look", self._run_id is None, queues, paused, tuple(known), room.kind, on_loop), build)
        if not found:
            # Our own row is gone (pruned, or restored from a backup): look at everything; the next beat writes it anew.
            return ports.clock.now(), ports.clock.now(), False
        *seen, any_paused = found[0]
        return tuple(seen) if ports.confirm_pauses(pauses, any_paused) else self._look(room)

    def next_due_in(self) -> float | None:
        """Return in how many seconds something that waits for its time will be due; None: nothing does."""
        using = self._kernel.ports.using

        def build() -> QuerySet[Any]:
            now = self._kernel.ports.clock.db_now()
            # A moment back: what fell due since the look is not to be missed.
            since = now - SINCE_LOOK
            stages = StageRun.objects.using(using).filter(status=StageStatus.PENDING, due_at__gt=since)
            runs = WorkflowRun.objects.using(using).filter(
                status=RunStatus.PENDING, paused_at__isnull=True, due_at__gt=since
            )
            return self._myself().values_list(
                Subquery(stages.order_by("due_at").values("due_at")[:1]),
                Subquery(runs.order_by("due_at").values("due_at")[:1]),
                ExpressionWrapper(now, DateTimeField()),
            )

        found = self._rows(("next",), build)
        if not found:
            return 1.0
        *times, now = found[0]
        waits = [(due - now).total_seconds() for due in times if due is not None]
        return max(0.0, min(waits)) if waits else None

    def _due(
        self, room: _Room, known: list[str], paused: frozenset[str]
    ) -> tuple[StageRunQuerySet, WorkflowRunQuerySet]:
        ports = self._kernel.ports
        queues = None if room.starter.queues is None else list(room.starter.queues)
        stages = StageRun.objects.using(ports.using).startable(ports.clock.db_now(), queues, known, paused=paused)
        if room.kind != "any":
            on_loop = loop_stages(ports)
            stages = stages.filter(on_loop) if room.kind == "loop" else stages.exclude(on_loop)
        workflows = known if room.workflows is None else list(room.workflows)
        runs = WorkflowRun.objects.using(ports.using).claimable(ports.clock.db_now(), workflows)
        if self._run_id is not None:
            stages, runs = stages.filter(run=THIS_RUN), runs.filter(pk=THIS_RUN)
        return stages, runs

    def _myself(self) -> QuerySet[WorkerHeartbeat]:
        return WorkerHeartbeat.objects.using(self._kernel.ports.using).filter(pk=THIS_WORKER)

    def _rows(self, key: tuple[Any, ...], build: Callable[[], QuerySet[Any]]) -> Sequence[Sequence[Any]]:
        places: dict[uuid.UUID, uuid.UUID] = {THIS_WORKER: self._worker_id}
        if self._run_id is not None:
            places[THIS_RUN] = self._run_id
        return rows_of(self._kernel.ports.using, key, build, places=places, keep=not self._kernel.ports.is_frozen)
