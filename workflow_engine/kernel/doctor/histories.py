"""Runs looked at one by one: their events, what they store, and whether they did all that was planned."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, Count, Max, Min, Model, Value

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import OutboxEvent, RunData, StageRun, WorkflowRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import DONE_STAGE, FINISHED_RUN, RunStatus

from .findings import Finding

logger = logging.getLogger(__name__)
PAGE = 200
TERMINAL = ("run.completed", "run.failed", "run.cancelled")
ENVELOPES = ("input", "output", "state")
UNREADABLE = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
RESTORE = "Restore the row from a backup, or cancel the run."


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run without its JSON."""

    id: uuid.UUID
    status: str
    generation: int
    event_seq: int

    @property
    def has_ended(self) -> bool:
        return self.status in FINISHED_RUN


def pages(ports: Ports, most: int) -> Iterator[list[Facts]]:
    """Yield the newest runs, at most ``most``, in pages."""
    rows = WorkflowRun.objects.using(ports.using).order_by("-pk")
    left, last = most, None
    while left > 0:
        page = rows if last is None else rows.filter(pk__lt=last)
        found = [Facts(*row) for row in page.values_list("pk", "status", "generation", "event_seq")[: min(PAGE, left)]]
        if not found:
            return
        yield found
        left, last = left - len(found), found[-1].id


def wrong_histories(ports: Ports, runs: Sequence[Facts]) -> Iterator[Finding]:
    """Yield what is wrong with the events of these runs."""
    events = OutboxEvent.objects.using(ports.using).filter(run__in=[run.id for run in runs])
    counts = events.values("run").annotate(count=Count("pk"), first=Min("sequence"), last=Max("sequence"))
    found = {row["run"]: (row["count"], row["first"], row["last"]) for row in counts}
    ends: dict[uuid.UUID, dict[int, int]] = {}
    ended = events.filter(type__in=TERMINAL).values("run", "generation").annotate(count=Count("pk"))
    for row in ended:
        ends.setdefault(row["run"], {})[row["generation"]] = row["count"]
    for run in runs:
        yield from _gaps(run, *found.get(run.id, (0, 0, 0)))
        yield from _ends(run, ends.get(run.id, {}), has_events=run.id in found)


def _gaps(run: Facts, count: int, first: int, last: int) -> Iterator[Finding]:
    code = "events.gap"
    if run.has_ended and not count:
        # Events of runs that have ended may have been deleted.
        return
    if count and last - first + 1 != count:
        yield Finding(code, "violation", run.id, "", f"Of the events {first} to {last} there are only {count}.")
    elif last != run.event_seq or (not run.has_ended and first != 1):
        text = f"The run counts {run.event_seq} events, and there are those from {first} to {last}."
        yield Finding(code, "violation", run.id, "", text)


def _ends(run: Facts, ends: Mapping[int, int], *, has_events: bool) -> Iterator[Finding]:
    for generation, count in sorted(ends.items()):
        if count > 1:
            text = f"Generation {generation} has {count} events of the run's end; there can be one."
            yield Finding("events.two_ends", "violation", run.id, "", text)
    if run.has_ended and has_events and run.generation not in ends:
        text = f"The run is {run.status}, and no event of its last generation says so."
        yield Finding("events.no_end", "violation", run.id, "", text)
    if not run.has_ended and run.generation in ends:
        text = f"The run is {run.status}, and an event says that it has ended."
        yield Finding("events.no_end", "violation", run.id, "", text)


def unreadable_rows(ports: Ports, runs: Sequence[Facts]) -> Iterator[Finding]:
    """Yield rows whose JSON Python cannot read."""
    code, ids = "row.unreadable", [run.id for run in runs]
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
        if field in ENVELOPES and envelope and envelope.blob_key is None:
            envelope.open()


def unfinished_plans(ports: Ports, runs: Sequence[Facts]) -> Iterator[Finding]:
    """Yield COMPLETED runs that have not done all that was planned, and plans that are none."""
    done: dict[uuid.UUID, set[str]] = {}
    rows = StageRun.objects.using(ports.using).current().filter(status__in=DONE_STAGE)
    completed = [run.id for run in runs if run.status == RunStatus.COMPLETED]
    for run_id, stage in rows.filter(run__in=completed).values_list("run", "stage"):
        done.setdefault(run_id, set()).add(stage)
    for run_id, planned in _plans(ports, [run.id for run in runs]):
        if planned is None:
            text = "The run's plan is none: it has no groups of stages with ids and queues."
            yield Finding("plan.broken", "violation", run_id, "", text, RESTORE)
        elif run_id in completed:
            for stage in planned:
                if stage not in done.get(run_id, ()):
                    text = "The run is COMPLETED, and this stage of its plan is neither COMPLETED nor SKIPPED."
                    yield Finding("run.incomplete", "violation", run_id, stage, text)


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
