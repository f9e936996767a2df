"""Runs looked at one by one: their events, what they store, and whether they did all that was planned."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, Count, F, Max, Min, Model, Q, Value

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import OutboxEvent, RunData, StageRun, WorkflowRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import DONE_STAGE, FINISHED_RUN, RunStatus

from .findings import Finding

logger = logging.getLogger(__name__)
PAGE = 200
TERMINAL = ("run.completed", "run.failed", "run.cancelled")
ENVELOPES = ("input", "output", "state", "item")
UNREADABLE = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
RESTORE = "Restore the row from a backup, or cancel the run."


def pages(ports: Ports, most: int) -> Iterator[list[uuid.UUID]]:
    """Yield the ids of the newest runs, at most ``most``, in pages."""
    rows = WorkflowRun.objects.using(ports.using).order_by("-pk")
    left, last = most, None
    while left > 0:
        page = rows if last is None else rows.filter(pk__lt=last)
        found = list(page.values_list("pk", flat=True)[: min(PAGE, left)])
        if not found:
            return
        yield found
        left, last = left - len(found), found[-1]


@dataclass(frozen=True, slots=True)
class _History:
    """A run and what its events say, as of one moment."""

    id: uuid.UUID
    status: str
    generation: int
    event_seq: int
    count: int
    first: int | None
    last: int | None
    # Events of the end of its generation.
    ends: int

    @property
    def has_ended(self) -> bool:
        return self.status in FINISHED_RUN


def wrong_histories(ports: Ports, ids: Sequence[uuid.UUID]) -> Iterator[Finding]:
    """Yield what is wrong with the events of these runs."""
    runs = WorkflowRun.objects.using(ports.using).filter(pk__in=ids).order_by("-pk")
    # One statement, as runs go on meanwhile.
    counted = runs.annotate(
        events_count=Count("events"),
        first=Min("events__sequence"),
        last=Max("events__sequence"),
        ends=Count("events", filter=Q(events__type__in=TERMINAL, events__generation=F("generation"))),
    )
    columns = ("pk", "status", "generation", "event_seq", "events_count", "first", "last", "ends")
    for values in counted.values_list(*columns):
        history = _History(*values)
        yield from _gaps(history)
        yield from _ends(history)
    events = OutboxEvent.objects.using(ports.using).filter(run__in=ids, type__in=TERMINAL)
    twice = events.values("run", "generation").annotate(count=Count("pk")).filter(count__gt=1)
    for row in twice.order_by("run", "generation"):
        text = f"Generation {row['generation']} has {row['count']} events of the run's end; there can be one."
        yield Finding("events.two_ends", "violation", row["run"], "", text)


def _gaps(run: _History) -> Iterator[Finding]:
    code = "events.gap"
    if run.first is None or run.last is None:
        # Events of runs that have ended may have been deleted.
        if not run.has_ended:
            yield Finding(code, "violation", run.id, "", f"The run counts {run.event_seq} events, and there is none.")
    elif run.last - run.first + 1 != run.count:
        text = f"Of the events {run.first} to {run.last} there are only {run.count}."
        yield Finding(code, "violation", run.id, "", text)
    elif run.last != run.event_seq or (not run.has_ended and run.first != 1 and not run.generation):
        # Of a run that goes on again those of before may have been deleted.
        text = f"The run counts {run.event_seq} events, and there are those from {run.first} to {run.last}."
        yield Finding(code, "violation", run.id, "", text)


def _ends(run: _History) -> Iterator[Finding]:
    if run.has_ended and run.count and not run.ends:
        text = f"The run is {run.status}, and no event of its last generation says so."
        yield Finding("events.no_end", "violation", run.id, "", text)
    if not run.has_ended and run.ends:
        text = f"The run is {run.status}, and an event says that it has ended."
        yield Finding("events.no_end", "violation", run.id, "", text)


def unreadable_rows(ports: Ports, ids: Sequence[uuid.UUID]) -> Iterator[Finding]:
    """Yield rows whose JSON Python cannot read."""
    code = "row.unreadable"
    for model, key in ((WorkflowRun, "pk"), (RunData, "run"), (StageRun, "run"), (OutboxEvent, "run")):
        for run_id, stage, field, reason in _unreadable(ports, model, key, ids):
            what = f"{model._meta.verbose_name} ({field})"
            text = f"The {what} cannot be read: {reason}"
            yield Finding(code, "violation", run_id, stage, text, RESTORE)


def _unreadable(
    ports: Ports, model: type[Model], key: str, ids: Sequence[uuid.UUID]
) -> Iterator[tuple[uuid.UUID, str, str, str]]:
    fields = [field.name for field in model._meta.fields if field.get_internal_type() == "JSONField"]
    rows = model._default_manager.using(ports.using).filter(**{f"{key}__in": ids})
    try:
        for values in rows.values_list(*fields).iterator():
            _open(fields, values)
        return
    except UNREADABLE:
        logger.debug("some row cannot be read table=%s", model._meta.db_table)
    # One of them: which?
    named = rows.values_list("pk", key, "stage" if model is StageRun else Value("", CharField()))
    for pk, run_id, stage in list(named):
        for field in fields:
            try:
                _open([field], rows.filter(pk=pk).values_list(field).get())
            except UNREADABLE as error:
                yield run_id, stage, field, f"{type(error).__name__}: {error}"[:300]


def _open(fields: Sequence[str], values: Sequence[Any]) -> None:
    """Read what stands in envelopes; blobs stay where they are."""
    for field, value in zip(fields, values, strict=True):
        envelope = Envelope(value)
        if field in ENVELOPES and envelope and envelope.blob_key is None and envelope.items is None:
            envelope.open()


def unfinished_plans(ports: Ports, ids: Sequence[uuid.UUID]) -> Iterator[Finding]:
    """Yield COMPLETED runs that have not done all that was planned, and plans that are none."""
    runs = WorkflowRun.objects.using(ports.using).filter(status=RunStatus.COMPLETED)
    completed = dict(runs.filter(pk__in=ids).values_list("pk", "generation"))
    done: dict[uuid.UUID, set[str]] = {}
    rows = StageRun.objects.using(ports.using).current().stages()
    rows = rows.filter(run__in=list(completed), status__in=DONE_STAGE)
    for run_id, stage in rows.values_list("run", "stage"):
        done.setdefault(run_id, set()).add(stage)
    for run_id, planned in _plans(ports, ids):
        if planned is None:
            text = "The run's plan is none: it has no groups of stages with ids and queues."
            yield Finding("plan.broken", "violation", run_id, "", text, RESTORE)
        elif run_id in completed:
            missed = [stage for stage in planned if stage not in done.get(run_id, ())]
            # A rerun may have begun since.
            if missed and runs.filter(pk=run_id, generation=completed[run_id]).exists():
                text = "The run is COMPLETED, and this stage of its plan is neither COMPLETED nor SKIPPED."
                yield from (Finding("run.incomplete", "violation", run_id, stage, text) for stage in missed)


def _plans(ports: Ports, ids: Sequence[uuid.UUID]) -> Iterator[tuple[uuid.UUID, list[str] | None]]:
    """Yield the planned stages of runs; None: it is no plan. What cannot be read at all is left out."""
    rows = RunData.objects.using(ports.using).filter(run__in=ids).order_by("pk")
    try:
        found: list[tuple[uuid.UUID, Any]] = list(rows.values_list("run", "plan"))
    except UNREADABLE:
        found = []
        for pk in ids:
            try:
                found += list(rows.filter(run=pk).values_list("run", "plan"))
            except UNREADABLE:
                continue
    for run_id, plan in found:
        yield run_id, _planned(plan)


def _planned(plan: Any) -> list[str] | None:
    try:
        stages = [item for group in plan["groups"] for item in group["stages"]]
        return [str(item["id"]) for item in stages if item["queue"]]
    except (KeyError, TypeError):
        return None


def without_data(ports: Ports) -> Iterator[Finding]:
    rows = WorkflowRun.objects.using(ports.using).filter(data__isnull=True).order_by("-pk")
    for pk in rows.values_list("pk", flat=True).iterator():
        text = "The run has no row with its plan, input and config."
        yield Finding("plan.broken", "violation", pk, "", text, RESTORE)
