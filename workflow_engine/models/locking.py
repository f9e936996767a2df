"""Locking runs on the hot path: the queries of ``WorkflowRunQuerySet``, compiled once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from .base import DbClock, lock_rows
from .compiled import padded, rows_of
from .runs import DATA_COLUMNS, HOT_COLUMNS, RunData, WorkflowRun

ALL_COLUMNS = tuple(field.attname for field in WorkflowRun._meta.concrete_fields)
Locked = list[tuple[WorkflowRun, datetime]]


def lock_by_id(using: str, ids: Sequence[uuid.UUID], *, with_data: bool = False) -> Locked:
    """Lock runs in the order of their ids, leaving out those that somebody holds; with the database's time.

    Only the hot columns are read, and the side rows if asked for.
    """
    stored = WorkflowRun._meta.pk.get_db_prep_save

    def build() -> QuerySet[WorkflowRun]:
        # Different ones, since Django drops what is there twice.
        places = [uuid.uuid4() for _ in wanted]
        return _free(WorkflowRun.objects.using(using).filter(pk__in=places).order_by("pk"))

    wanted = [stored(key, connections[using]) for key in padded(ids)]
    key = ("by_id", len(wanted), with_data)
    return _lock(using, key, build, params=wanted, with_data=with_data)


def lock_whole(using: str, run_id: uuid.UUID, *, wait: bool) -> Locked:
    """Lock one run, with all that is known of it; without ``wait`` not if somebody holds it."""

    def build() -> QuerySet[WorkflowRun]:
        return lock_rows(WorkflowRun.objects.using(using).filter(pk=uuid.uuid4()), skip_locked=not wait)

    stored = WorkflowRun._meta.pk.get_db_prep_save(run_id, connections[using])
    return _lock(using, ("whole", wait), build, params=[stored], columns=ALL_COLUMNS, with_data=True)


def lock_claimable(using: str, workflows: Sequence[str], most: int, clock: Any) -> Locked:
    """Lock the next runs that a worker knowing ``workflows`` may claim, with their data."""

    def build() -> QuerySet[WorkflowRun]:
        return _free(WorkflowRun.objects.using(using).claimable(clock, list(workflows))[:most])

    return _lock(using, ("claimable", most, tuple(workflows)), build, with_data=True)


def _lock(
    using: str,
    key: Hashable,
    build: Callable[[], QuerySet[WorkflowRun]],
    *,
    params: Sequence[Any] | None = None,
    columns: Sequence[str] = HOT_COLUMNS,
    with_data: bool = False,
) -> Locked:
    data = tuple(f"data__{name}" for name in DATA_COLUMNS) if with_data else ()
    found = []
    for row in rows_of(using, key, lambda: _query(build(), (*columns, *data)), params):
        run = WorkflowRun.from_db(using, columns, row[: len(columns)])
        if with_data:
            run.keep_data(RunData.from_db(using, ("run_id", *DATA_COLUMNS), (run.pk, *row[len(columns) : -1])))
        found.append((run, row[-1]))
    return found


def _query(runs: QuerySet[WorkflowRun], columns: Sequence[str]) -> QuerySet[Any]:
    return runs.annotate(locked_at=DbClock()).values_list(*columns, "locked_at")


def _free(runs: QuerySet[WorkflowRun]) -> QuerySet[WorkflowRun]:
    return lock_rows(runs, skip_locked=True)
