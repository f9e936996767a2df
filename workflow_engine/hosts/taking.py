"""What to take next: due stages and pending runs, the earlier in rank first."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from django.db import Error
from django.db.models import BooleanField, DateTimeField, Exists, ExpressionWrapper, Q, QuerySet, Subquery, Value

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, StartStages
from workflow_engine.kernel.commands.start_stages import loop_stages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import (
    NOT_AN_ITEM,
    BulkOperation,
    OutboxEvent,
    Pause,
    RunNotice,
    Schedule,
    ScheduledCommand,
    StageRun,
    WorkerHeartbeat,
    WorkflowRun,
)
from workflow_engine.models.base import constant
from workflow_engine.models.compiled import THIS_RUN, THIS_WORKER, rows_of
from workflow_engine.models.runs import WorkflowRunQuerySet, family
from workflow_engine.models.scheduled_commands import first_due
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import RunStatus, StageStatus

from .scheduler import first_in
from .turns import Turns

logger = logging.getLogger(__name__)
# A suspect that is due for this long makes a busy worker stop taking work until it is idle and can run it alone.
SUSPECT_PATIENCE_SECONDS = 2.0
# Runs claimed in one transaction.
MOST_CLAIMED = 100
Kind = Literal["any", "slot", "loop"]
# Pending runs; due stages; or of those only items of maps, or only what is none.
_Step = Literal["runs", "stages", "items", "others"]
SINCE_LOOK = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Room:
    """What kind of places is free, and which workflows begin in such (None: any)."""

    starter: Starter
    kind: Kind
    workflows: tuple[str, ...] | None


class Taker:
    """Asks one cheap statement whether there is anything, then takes as much as there are free slots."""

    def __init__(self, kernel: Kernel, run_id: uuid.UUID | None, worker_id: uuid.UUID, turns: Turns) -> None:
        self._kernel, self._run_id, self._worker_id, self._turns = kernel, run_id, worker_id, turns
        self._alone: uuid.UUID | None = None
        self._suspect_since: float | None = None
        # Some run is to be told something: whoever delivers that should look.
        self.saw_notices = False
        # A bulk operation is under way.
        self.saw_bulk = False
        # Somebody wants to hear of events that were not handed on yet.
        self.saw_news = False
        # In how many seconds the first scheduled command, or time of a schedule, is due; None: not seen.
        self.scheduled_in: float | None = None
        # Whether the last look found anything due, taken or not.
        self.saw_work = False
        # It found due stages, and none of them could be taken.
        self._in_vain = False

    @property
    def makes_room(self) -> bool:
        """A suspect has waited long enough: this process takes nothing else until it runs it, alone."""
        return self._suspect_since is not None and time.monotonic() - self._suspect_since > SUSPECT_PATIENCE_SECONDS

    @property
    def runs_alone(self) -> bool:
        return self._alone is not None

    def take(self, starter: Starter, running: int) -> list[StartedStage]:
        """Return the attempts started for this worker; an empty list if there is nothing to do.

        They are either all items of maps, or all others, and the caller has the turn of those: it is to hold them
        before it leaves that.
        """
        self.saw_work = False
        if running == 0:
            self._alone = None
        if self._alone is not None:
            return []
        rooms = self._rooms(starter)
        self._turns.switch(items=False)
        found = [self._look(room) for room in rooms]
        looks = [tuple(seen) for *seen, _, _, _, _ in found]
        self.saw_notices = any(told for *_, told, _, _, _ in found)
        self.saw_bulk = any(bulk for *_, bulk, _, _ in found)
        self.saw_news = any(news for *_, news, _ in found)
        self.scheduled_in = 0.0 if any(scheduled for *_, scheduled in found) else None
        self.saw_work = any(stage is not None or run is not None or suspect for stage, _, run, suspect in looks)
        made_room = self.makes_room
        waits = any(suspect for *_, suspect in looks)
        if waits or len(rooms) == 2 or any(room.kind == "any" for room in rooms):
            # Where only one kind of place is free, only that kind of suspects was asked for.
            self._note_suspect(waits, running)
        if running and self.makes_room:
            return []
        if not running:
            for room, (*_, suspect) in zip(rooms, looks, strict=True):
                taken = self._take_stages(room.starter, room.kind, idle=True, suspects_only=True) if suspect else []
                if len(taken) == 1 and taken[0].alone and starter.room > 1:
                    self._alone = taken[0].stage_run_id
                if taken:
                    return taken
            if made_room and waits:
                return []
        taken = []
        for room, (stage_rank, first_index, run_rank, _) in zip(rooms, looks, strict=True):
            if starter.most is not None:
                room = replace(room, starter=replace(room.starter, most=starter.most - len(taken)))
            try:
                taken += self._take_rest(room, _in_order(stage_rank, first_index, run_rank, room.starter), taken)
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
            return [_Room(replace(starter, tasks=None), "any", None)] if starter.room > 0 else []
        takable = self._kernel.ports.takable_workflows()
        registered = [item for item in self._kernel.ports.registry.registered_workflows() if item.id in takable]
        on_loop = {item.id for item in registered if all(stage.runs_on_loop for stage in item.groups[0].stages)}
        in_slots = tuple(item.id for item in registered if item.id not in on_loop)
        rooms = [
            _Room(replace(starter, tasks=0), "slot", in_slots),
            _Room(replace(starter, slots=0, items=None), "loop", tuple(sorted(on_loop))),
        ]
        return [room for room in rooms if room.starter.room > 0]

    def _take_rest(self, room: _Room, steps: Sequence[_Step], before: Sequence[StartedStage]) -> list[StartedStage]:
        taken: list[StartedStage] = []
        in_vain, self._in_vain = self._in_vain, False
        for step in steps:
            if self._in_vain and step == "items" and not in_vain:
                # Others are due, and somebody holds their runs just now: most likely nothing else is due.
                break
            if (before or taken) and not self._turns.has(items=step == "items"):
                # What was taken is held first. Work was found, so the caller will look again at once.
                break
            fewer = _only(step, _without(room.starter, taken))
            if fewer.room <= 0 or (step == "runs" and fewer.room_for_runs <= 0):
                continue
            self._turns.switch(items=step == "items")
            try:
                if step == "runs":
                    most = min(fewer.room_for_runs, MOST_CLAIMED)
                    command = ClaimPendingRuns(
                        max_claims=most, run_id=self._run_id, workflows=room.workflows, starter=fewer
                    )
                    taken += self._kernel.dispatch(command).started
                else:
                    got = self._take_stages(fewer, room.kind, idle=False)
                    self._in_vain = not got
                    taken += got
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

    def _look(self, room: _Room) -> tuple[Any, ...]:
        """Return (rank of the first due stage, its index in a map, rank of the first pending run, is a suspect due, is
        a run to be told something, is a bulk operation under way, is there news to hand on, is something else due by
        its time); one statement."""
        ports = self._kernel.ports
        pauses, queues = ports.glance_at_pauses(), room.starter.queues
        # Whoever is rung for asks for what is seldom before it rests, and not while work waits.
        polls = ports.transport.polls
        known, paused = ports.takable_workflows(pauses), pauses.queues

        def build() -> QuerySet[Any]:
            stages, runs = self._due(room, known, paused)
            return self._myself().values_list(
                Subquery(stages.filter(suspect=False).values("rank_at")[:1]),
                Subquery(stages.filter(suspect=False).values("map_index")[:1]),
                Subquery(runs.values("rank_at")[:1]),
                Exists(stages.filter(suspect=True)),
                *((*self._seldom(), self._scheduled()) if polls else [Value(False)] * 4),
                Exists(Pause.objects.using(ports.using).all()),
            )

        on_loop = () if room.kind == "any" else tuple(sorted(ports.loop_stages().items()))
        found = self._rows(
            (
                "look",
                polls,
                self._run_id is None,
                room.starter.takes_items,
                room.starter.takes_others,
                queues,
                paused,
                tuple(known),
                room.kind,
                on_loop,
            ),
            build,
        )
        if not found:
            # Our own row is gone (pruned, or restored from a backup): look at everything; the next beat writes it anew.
            return ports.clock.now(), NOT_AN_ITEM, ports.clock.now(), False, False, False, False, False
        *seen, any_paused = found[0]
        return tuple(seen) if ports.confirm_pauses(pauses, any_paused) else self._look(room)

    def next_due_in(self) -> float | None:
        """Return in how many seconds something that waits for its time will be due; None: nothing does."""
        using = self._kernel.ports.using

        def build() -> QuerySet[Any]:
            now = self._kernel.ports.clock.db_now()
            # A moment back: what fell due since the look is not to be missed.
            since = now - SINCE_LOOK
            stages = StageRun.objects.using(using).filter(status=constant(StageStatus.PENDING), due_at__gt=since)
            runs = WorkflowRun.objects.using(using).filter(
                status=constant(RunStatus.PENDING), paused_at__isnull=True, due_at__gt=since
            )
            # Held back until its time, where a limit counts it.
            notices = RunNotice.objects.using(using)
            return self._myself().values_list(
                Subquery(stages.order_by("due_at").values("due_at")[:1]),
                Subquery(runs.order_by("due_at").values("due_at")[:1]),
                Subquery(notices.filter(due_at__gt=since).order_by("due_at").values("due_at")[:1]),
                *(Subquery(rows) for rows in first_due(using)),
                ExpressionWrapper(now, DateTimeField()),
                *self._seldom(),
            )

        found = self._rows("next", build)
        if not found:
            return 1.0
        *times, schedule_at, command_at, now, self.saw_notices, self.saw_bulk, self.saw_news = found[0]
        self.scheduled_in = first_in([schedule_at, command_at], now)
        waits = [(due - now).total_seconds() for due in times if due is not None]
        return max(0.0, min(waits)) if waits else None

    def _seldom(self) -> tuple[Exists, Exists, Exists]:
        """Return whether a run is to be told something, a bulk operation is under way, there is news to hand on."""
        ports = self._kernel.ports
        notices = RunNotice.objects.using(ports.using).due(ports.clock.db_now())
        bulk = BulkOperation.objects.using(ports.using).open()
        news = OutboxEvent.objects.using(ports.using).to_hand_on()
        return Exists(notices), Exists(bulk), Exists(news)

    def _scheduled(self) -> ExpressionWrapper:
        """Return whether a scheduled command, or a time of a schedule, is due."""
        using, now = self._kernel.ports.using, self._kernel.ports.clock.db_now()
        schedules, commands = Schedule.objects.using(using).due(now), ScheduledCommand.objects.using(using).due(now)
        return ExpressionWrapper(Q(Exists(schedules)) | Q(Exists(commands)), BooleanField())

    def _due(
        self, room: _Room, known: list[str], paused: frozenset[str]
    ) -> tuple[StageRunQuerySet, WorkflowRunQuerySet]:
        ports = self._kernel.ports
        queues = None if room.starter.queues is None else list(room.starter.queues)
        stages = StageRun.objects.using(ports.using).startable(ports.clock.db_now(), queues, known, paused=paused)
        stages = stages.of_kind(items=room.starter.takes_items, others=room.starter.takes_others)
        if room.kind != "any":
            on_loop = loop_stages(ports)
            stages = stages.filter(on_loop) if room.kind == "loop" else stages.exclude(on_loop)
        workflows = known if room.workflows is None else list(room.workflows)
        if not room.starter.takes_others:
            workflows = []
        runs = WorkflowRun.objects.using(ports.using).claimable(ports.clock.db_now(), workflows)
        if self._run_id is not None:
            stages, runs = stages.filter(family("run", THIS_RUN)), runs.filter(family("", THIS_RUN))
        return stages, runs

    def _myself(self) -> QuerySet[WorkerHeartbeat]:
        return WorkerHeartbeat.objects.using(self._kernel.ports.using).filter(pk=THIS_WORKER)

    def _rows(self, key: Hashable, build: Callable[[], QuerySet[Any]]) -> Sequence[Sequence[Any]]:
        places: dict[uuid.UUID, uuid.UUID] = {THIS_WORKER: self._worker_id}
        if self._run_id is not None:
            places[THIS_RUN] = self._run_id
        return rows_of(self._kernel.ports.using, key, build, places=places, keep=not self._kernel.ports.is_frozen)


def _in_order(stage_rank: Any, first_index: int | None, run_rank: Any, starter: Starter) -> list[_Step]:
    """Return what to take, the earlier in rank first."""
    steps: list[_Step] = []
    if stage_rank is not None:
        steps = ["stages"]
        if starter.items is not None:
            steps = ["others", "items"] if first_index == NOT_AN_ITEM else ["items", "others"]
    if run_rank is not None:
        # Runs begin in the turn of others.
        steps.insert(0 if stage_rank is None or run_rank < stage_rank else 1, "runs")
    return steps


def _only(step: _Step, starter: Starter) -> Starter:
    if step == "items":
        return replace(starter, slots=0)
    return replace(starter, items=0) if step == "others" else starter


def _without(starter: Starter, taken: Sequence[StartedStage]) -> Starter:
    """Return what is left of a starter's room; of slots and tasks it has only one kind here."""
    items = 0 if starter.items is None else sum(stage.item_index is not None for stage in taken)
    if starter.tasks:
        return replace(starter, tasks=max(0, starter.tasks - len(taken)))
    left = None if starter.items is None else max(0, starter.items - items)
    most = None if starter.most is None else max(0, starter.most - len(taken))
    return replace(starter, slots=max(0, starter.slots - len(taken) + items), items=left, most=most)
