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

Locked = list[tuple[WorkflowRun, datetime]]


def lock_by_id(using: str, ids: Sequence[uuid.UUID], *, with_data: bool = False) -> Locked:
    """Lock runs in the order of their ids, leaving out those that somebody holds; with the database's time.

    Only the hot columns are read, and the side rows if asked for.
    """
    stored = WorkflowRun._meta.pk.get_db_prep_save

    def build() -> QuerySet[WorkflowRun]:
        # Different ones, since Django drops what is there twice.
        places = [uuid.uuid4() for _ in wanted]
        return WorkflowRun.objects.using(using).filter(pk__in=places).order_by("pk")

    wanted = [stored(key, connections[using]) for key in padded(ids)]
    key = ("by_id", len(wanted), with_data)
    return _lock(using, key, build, params=wanted, with_data=with_data)


def lock_claimable(using: str, workflows: Sequence[str], most: int, clock: Any) -> Locked:
    """Lock the next runs that a worker knowing ``workflows`` may claim, with their data."""

    def build() -> QuerySet[WorkflowRun]:
        return WorkflowRun.objects.using(using).claimable(clock, list(workflows))[:most]

    return _lock(using, ("claimable", most, tuple(workflows)), build, with_data=True)


def _lock(
    using: str,
    key: Hashable,
    build: Callable[[], QuerySet[WorkflowRun]],
    *,
    params: Sequence[Any] | None = None,
    with_data: bool = False,
) -> Locked:
    data = tuple(f"data__{name}" for name in DATA_COLUMNS) if with_data else ()
    found = []
    for row in rows_of(using, key, lambda: _query(build(), data), params):
        run = WorkflowRun.from_db(using, HOT_COLUMNS, row[: len(HOT_COLUMNS)])
        if with_data:
            run.keep_data(RunData.from_db(using, ("run_id", *DATA_COLUMNS), (run.pk, *row[len(HOT_COLUMNS) : -1])))
        found.append((run, row[-1]))
    return found


def _query(runs: QuerySet[WorkflowRun], data: Sequence[str]) -> QuerySet[Any]:
    return lock_rows(runs, skip_locked=True).annotate(locked_at=DbClock()).values_list(*HOT_COLUMNS, *data, "locked_at")
