"""A page of runs with all that belongs to them, read in a dozen statements however many they are."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import (
    NOT_AN_ITEM,
    EventCursor,
    IdempotencyKey,
    OutboxEvent,
    RunNotice,
    RunPlace,
    StageAttempt,
    StageMap,
    StageMemo,
    StageRun,
    WorkflowArtifact,
    WorkflowRun,
)
from workflow_engine.statuses import FINISHED_RUN, MemoKind, WaitKind

from .stored import NOTHING, UNREADABLE, Payload, as_text, read_json, read_numbers, read_payload

Id = uuid.UUID


class RunRow(NamedTuple):
    pk: Id
    status: str
    generation: int
    event_seq: int
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    paused_at: datetime | None
    total_cost: float
    total_tokens: int
    parent_stage_run_id: Id | None


class StageRow(NamedTuple):
    pk: Id
    run_id: Id
    stage: str
    group_number: int
    map_index: int
    generation: int
    superseded_at: datetime | None
    status: str
    due_at: datetime
    attempt: int
    token: int
    worker: Id | None
    crashes: int
    started_at: datetime | None
    finished_at: datetime | None
    wait_kind: str
    wait_until: datetime | None
    wake_at: datetime | None
    output: Payload = NOTHING
    metrics: Any = None

    @property
    def is_item(self) -> bool:
        return self.map_index != NOT_AN_ITEM

    @property
    def place(self) -> str:
        """Return how a sentence names it."""
        return f"Item {self.map_index}" if self.is_item else "The stage"


class AttemptRow(NamedTuple):
    run_id: Id
    stage_run_id: Id
    stage: str
    token: int
    kind: str
    outcome: str
    finished_at: datetime


class EventRow(NamedTuple):
    run_id: Id
    sequence: int
    generation: int
    type: str
    pending: bool
    # Of the stage that it speaks of.
    stage: str = ""
    stage_run_id: str = ""
    token: int = 0
    attempt: int = 0


class MapRow(NamedTuple):
    pk: Id
    run_id: Id
    stage: str
    generation: int
    max_parallel: int
    total: int
    done: int
    failed: int
    cancelled: int
    opened: int

    @property
    def under_way(self) -> int:
        return self.opened - self.done - self.failed - self.cancelled


class Unreadable(NamedTuple):
    stage: str
    # As a sentence names it: ``stage run (output)``.
    what: str
    problem: str


class Blob(NamedTuple):
    """A reference to the blob store, and what has it."""

    stage: str
    what: str
    key: str
    size: int | None
    sha256: str | None
    # Several rows may refer to what an item was; what a stage made is its own.
    is_own: bool


@dataclass(slots=True)
class Parent:
    """What the stage that has started a run knows."""

    # None: its row is gone.
    waits: bool | None = None
    has_open_child: bool = False
    children: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """One run with all that belongs to it."""

    run: RunRow
    # Ids of stages by group; None: the plan is none, or cannot be read.
    groups: list[list[str]] | None = None
    has_data: bool = True
    stages: list[StageRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    maps: list[MapRow] = field(default_factory=list)
    # The status of its place in the line of a limit.
    place: str | None = None
    # Somebody has still to hear of its end, or of its place.
    has_told: bool = False
    parent: Parent | None = None
    # Of the keys under which it was created: the run that each answers with.
    keys: list[str | None] = field(default_factory=list)
    # How far each subscriber is to hear of it.
    targets: list[tuple[str, int, int]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    max_crashes: int = 0

    @property
    def has_ended(self) -> bool:
        return self.run.status in FINISHED_RUN

    @property
    def head(self) -> tuple[object, ...]:
        """What every change of a run moves."""
        run = self.run
        return run.status, run.generation, run.event_seq, run.due_at, run.paused_at

    @property
    def knows_all(self) -> bool:
        """Whether none of its events was deleted."""
        return bool(self.events) and self.events[0].sequence == 1

    def counting(self, generation: int) -> list[StageRow]:
        """Return the rows that counted in a generation: of every unit of work the latest that there was."""
        latest: dict[tuple[str, int], StageRow] = {}
        for row in self.stages:
            if row.generation <= generation:
                latest[row.stage, row.map_index] = row
        return list(latest.values())

    def add_problem(self, stage: str, what: str, problem: str) -> None:
        if problem:
            self.unreadable.append(Unreadable(stage, what, problem))

    def add_blob(self, stage: str, what: str, payload: Payload, *, is_own: bool = False) -> None:
        if payload.blob is not None:
            self.blobs.append(Blob(stage, what, payload.blob, payload.size, payload.sha256, is_own))


def load(ports: Ports, ids: Sequence[Id]) -> list[Record]:
    """Return those of the runs that are there, the newest first.

    What changes without a word of its run is read before what it is compared with: so it is never ahead of that.
    """
    using = ports.using
    told = set(RunNotice.objects.using(using).filter(sender__in=ids).values_list("sender", flat=True))
    places = dict(RunPlace.objects.using(using).filter(pk__in=ids).values_list("pk", "status"))
    tried = StageAttempt.objects.using(using).filter(run__in=ids).order_by("token", "id")
    attempts = _grouped(_rows(AttemptRow, tried))
    records = {record.run.pk: record for record in _runs(ports, ids)}
    for record in records.values():
        record.max_crashes = ports.limits.max_crashes
        record.attempts = attempts.get(record.run.pk, [])
        record.place = places.get(record.run.pk)
        record.has_told = record.run.pk in told
    stages = _add_stages(ports, records)
    if any(row.is_item or row.output.items or row.wait_kind == WaitKind.ITEMS for row in stages):
        for pk, maps in _grouped(_rows(MapRow, StageMap.objects.using(using).filter(run__in=ids))).items():
            if pk in records:
                records[pk].maps = maps
    _add_events(ports, records)
    _add_others(ports, records)
    _add_parents(ports, list(records.values()))
    return list(records.values())


def _rows(kind: type[Any], rows: Any) -> Iterator[Any]:
    return map(kind._make, rows.values_list(*kind._fields).iterator())


def _grouped(rows: Iterable[Any]) -> dict[Id, list[Any]]:
    found: dict[Id, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.run_id].append(row)
    return found


def _runs(ports: Ports, ids: Sequence[Id]) -> Iterator[Record]:
    rows = WorkflowRun.objects.using(ports.using).filter(pk__in=ids).order_by("-pk")
    columns = {name: as_text(name) for name in ("data__plan", "data__config", "data__input", "data__metadata", "error")}
    size = len(RunRow._fields)
    for values in rows.values_list(*RunRow._fields, "data__run_id", *columns.values()):
        record = Record(RunRow._make(values[:size]), has_data=values[size] is not None)
        plan, config, payload, metadata, error = values[size + 1 :]
        record.groups = _groups(record, plan)
        for what, text in (("run data (config)", config), ("run data (metadata)", metadata), ("run (error)", error)):
            record.add_problem("", what, read_json(text)[1])
        input, problem = read_payload(payload)
        record.add_problem("", "run data (input)", problem)
        record.add_blob("", "input", input)
        yield record


def _groups(record: Record, text: str | None) -> list[list[str]] | None:
    plan, problem = read_json(text)
    record.add_problem("", "run data (plan)", problem)
    try:
        # Each has a queue, or nothing could be started.
        return [[str(item["id"]) for item in group["stages"] if item["queue"]] for group in plan["groups"]]
    except (KeyError, TypeError):
        return None


ENVELOPES = ("item", "state")
PLAIN = ("config", "error", "progress")


def _add_stages(ports: Ports, records: dict[Id, Record]) -> list[StageRow]:
    rows = StageRun.objects.using(ports.using).filter(run__in=list(records))
    rows = rows.order_by("generation", "group_number", "stage_number", "map_index", "id")
    names = [name for name in StageRow._fields if name not in StageRow._field_defaults]
    texts = [as_text(name) for name in ("output", "metrics", *ENVELOPES, *PLAIN)]
    found = []
    for values in rows.values_list(*names, *texts).iterator():
        facts, (output, metrics, *others) = list(values[: len(names)]), values[len(names) :]
        record, stage = records[facts[1]], facts[2]
        payload, problem = read_payload(output)
        record.add_problem(stage, "stage run (output)", problem)
        record.add_blob(stage, "output", payload, is_own=True)
        numbers, problem = read_numbers(metrics)
        record.add_problem(stage, "stage run (metrics)", problem)
        for name, text in zip((*ENVELOPES, *PLAIN), others, strict=True):
            if text is None or text == "{}":
                continue
            inner, problem = read_payload(text) if name in ENVELOPES else (NOTHING, read_json(text)[1])
            record.add_problem(stage, f"stage run ({name})", problem)
            record.add_blob(stage, name, inner)
        row = StageRow._make([*facts, payload, numbers])
        record.stages.append(row)
        found.append(row)
    return found


def _add_events(ports: Ports, records: dict[Id, Record]) -> None:
    rows = OutboxEvent.objects.using(ports.using).filter(run__in=list(records)).order_by("run", "sequence")
    columns = ("run_id", "sequence", "generation", "type", "pending", as_text("payload"))
    for *facts, text in rows.values_list(*columns).iterator():
        record = records[facts[0]]
        payload, problem = read_json(text)
        record.add_problem("", f"event {facts[1]} (payload)", problem)
        said = payload if isinstance(payload, dict) else {}
        stage_run, token, attempt = said.get("stage_run_id"), said.get("token"), said.get("attempt")
        of_stage = (str(said.get("stage_id") or ""), str(stage_run or ""), token or 0, attempt or 0)
        record.events.append(EventRow._make([*facts, *of_stage]))


def _add_others(ports: Ports, records: dict[Id, Record]) -> None:
    ids, using = list(records), ports.using
    cursors = EventCursor.objects.using(using).filter(run__in=ids)
    for run_id, subscriber, last, target in cursors.values_list("run_id", "subscriber", "last_sequence", "target"):
        records[run_id].targets.append((subscriber, last, target))
    keys = IdempotencyKey.objects.using(using).filter(run_id__in=ids, command="run.create")
    for run_id, text in keys.values_list("run_id", as_text("result")):
        answer = read_json(text)[0]
        records[run_id].keys.append(answer.get("run_id") if isinstance(answer, dict) else None)
    artifacts = WorkflowArtifact.objects.using(using).filter(run__in=ids)
    for run_id, stage, name, *blob in artifacts.values_list("run_id", "stage", "name", "key", "size", "sha256"):
        records[run_id].blobs.append(Blob._make([stage, f"artifact {name!r}", *blob, True]))


def _add_parents(ports: Ports, records: Sequence[Record]) -> None:
    """Read notices first: the end of a run is told until its parent has been woken."""
    using, parents = ports.using, {pk: Parent() for record in records if (pk := record.run.parent_stage_run_id)}
    if not parents:
        return
    wanted = list(parents)
    rows = StageRun.objects.using(using).filter(pk__in=wanted).values_list("pk", "status", "wait_kind")
    for pk, status, wait_kind in rows:
        parents[pk].waits = status == "SUSPENDED" and wait_kind == "child"
    for memo in StageMemo.objects.using(using).filter(stage_run__in=wanted, kind=MemoKind.CHILD):
        with suppress(*UNREADABLE):
            parents[memo.stage_run_id].children.append(str(memo.get_value()["run_id"]))
    waiting = [pk for pk, parent in parents.items() if parent.waits]
    if waiting:
        running = WorkflowRun.objects.using(using).filter(parent_stage_run__in=waiting, finished_at__isnull=True)
        for pk in running.values_list("parent_stage_run", flat=True):
            parents[pk].has_open_child = True
    for record in records:
        record.parent = parents.get(record.run.parent_stage_run_id or record.run.pk)
