"""Rows that belong to nothing, and what is left of what has ended: one statement for all tables."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import CharField, Exists, F, Model, OuterRef, QuerySet, Value

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import (
    BulkOperation,
    BulkTarget,
    DeadLetter,
    EventCursor,
    IdempotencyKey,
    OutboxEvent,
    RunNotice,
    RunPlace,
    Schedule,
    ScheduleFire,
    StageAttempt,
    StageMap,
    StageMemo,
    WorkflowAnnotation,
    WorkflowArtifact,
    WorkflowRun,
)
from workflow_engine.models.compiled import rows_of
from workflow_engine.statuses import OPEN_BULK, FireState, TargetOutcome

from .findings import Finding, finding

# Whose runs no foreign key of the database keeps. Log lines may outlive their run, and go by their age; and what a run
# that was deleted was to be told is forgotten when it is due.
OF_RUNS: tuple[type[Model], ...] = (
    OutboxEvent,
    StageAttempt,
    StageMemo,
    WorkflowArtifact,
    WorkflowAnnotation,
    DeadLetter,
    IdempotencyKey,
    StageMap,
    RunPlace,
    EventCursor,
    ScheduleFire,
)
# Of these there are as many as there were runs: the newest say enough.
LARGE = OF_RUNS[:7]
# What may be there as long as somebody is at work, and what it is called.
LEFT_OVER: tuple[tuple[str, type[Model], dict[str, Any]], ...] = (
    ("notice.left", RunNotice, {}),
    ("delivery.left", EventCursor, {}),
    ("delivery.left", DeadLetter, {"replay_at__isnull": False}),
    ("bulk.open", BulkOperation, {"status__in": OPEN_BULK}),
)
# Of what is found.
MOST_ROWS = 100_000
Floors = Mapping[type[Model], Any]


def floors_of(ports: Ports, most: int) -> Floors:
    """Return where the newest ``most`` rows of each large table begin."""
    found = {}
    for model in LARGE:
        rows = model._default_manager.using(ports.using)
        # Keys are digests: only their time says which are the newest.
        name = "created_at" if model is IdempotencyKey else "pk"
        found[model] = rows.order_by(f"-{name}").values_list(name, flat=True)[most : most + 1].first()
    return found


def stray_rows(ports: Ports, *, floors: Floors | None = None, quiet: bool = False) -> Iterator[Finding]:
    """Yield what belongs to nothing.

    Args:
        floors: of large tables only the rows from there on; None: all.
        quiet: and what must not be left once everybody has done their work.
    """

    def build() -> QuerySet[Any]:
        parts = [_orphans(ports, model, (floors or {}).get(model)) for model in OF_RUNS]
        parts += _left(ports)
        if quiet:
            parts += [_select(_of(ports, model).filter(**named), code) for code, model, named in LEFT_OVER]
        return parts[0].union(*parts[1:], all=True)[:MOST_ROWS]

    # Tests ask it thousands of times, and it is long: Django would need longer than the database.
    found = rows_of(ports.using, ("doctor.stray_rows", quiet), build, keep=floors is None)
    counts: Counter[tuple[str, str, uuid.UUID]] = Counter(map(tuple, found))
    for (code, table, owner), count in counts.items():
        named = f"{count} rows of {table!r} " if count > 1 else f"A row of {table!r} "
        if code == "row.orphan":
            verb = "belong" if count > 1 else "belongs"
            yield finding(code, owner, text=f"{named}{verb} to this run, which is not there.")
        elif code in ("notice.left", "delivery.left"):
            yield finding(code, owner, text=f"{named}{'are' if count > 1 else 'is'} still there.")
        else:
            yield finding(code, None, text=f"{named}({owner}): {_say(code)}")


def _of(ports: Ports, model: type[Model]) -> QuerySet[Any]:
    return model._default_manager.using(ports.using).order_by()


def _select(rows: QuerySet[Any], code: str, owner: str = "") -> QuerySet[Any]:
    model = rows.model
    owner = owner or ("run_id" if any(field.attname == "run_id" for field in model._meta.concrete_fields) else "pk")
    # The column may have the name of a field already.
    facts = {"finding_code": code, "finding_table": str(model._meta.verbose_name)}
    named = {name: Value(text, output_field=CharField()) for name, text in facts.items()}
    found: QuerySet[Any] = rows.annotate(**named, finding_owner=F(owner)).values_list(*named, "finding_owner")
    return found


def _orphans(ports: Ports, model: type[Model], floor: Any) -> QuerySet[Any]:
    rows = _of(ports, model).filter(run_id__isnull=False)
    if floor is not None:
        rows = rows.filter(**{"created_at__gt" if model is IdempotencyKey else "pk__gt": floor})
    runs = WorkflowRun.objects.using(ports.using).filter(pk=OuterRef("run_id"))
    return _select(rows.exclude(Exists(runs)), "row.orphan")


def _left(ports: Ports) -> list[QuerySet[Any]]:
    ended = BulkOperation.objects.using(ports.using).filter(pk=OuterRef("operation_id")).exclude(status__in=OPEN_BULK)
    targets = _of(ports, BulkTarget).filter(Exists(ended), outcome=TargetOutcome.OPEN)
    unwatched = _of(ports, Schedule).filter(enabled=True, next_due_at__isnull=False, look_at__isnull=True)
    fires = _of(ports, ScheduleFire).filter(state=FireState.STARTED, run__isnull=True)
    return [
        _select(targets, "bulk.left", "operation_id"),
        _select(unwatched, "schedule.unwatched"),
        _select(fires, "fire.without_run", "schedule_id"),
    ]


def _say(code: str) -> str:
    return {
        "bulk.left": "its operation has ended, and nothing became of it.",
        "schedule.unwatched": "it is enabled and has a next time, and nobody will look at it.",
        "fire.without_run": "it counts as started, and names no run.",
        "bulk.open": "it is not over.",
    }[code]
