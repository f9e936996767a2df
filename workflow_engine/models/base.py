"""What several tables share: row locks and the database's clock, on every database Django speaks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

from django.db import connections, models
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=models.Model)


class DbNow(Now):
    """The database's clock, so that hosts' clocks do not matter. UTC whatever the session's time zone is."""

    def as_mysql(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's zone there, and Django stores naive UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


def lock_rows(queryset: models.QuerySet[M], *, skip_locked: bool = False) -> models.QuerySet[M]:
    """Lock the rows of ``queryset`` until the transaction ends, in the weakest way the database has.

    PostgreSQL: ``FOR NO KEY UPDATE``, which inserts that point at the row by a foreign key do not wait for. SQLite
    takes no row locks; there every transaction of the engine is ``BEGIN IMMEDIATE``, which excludes other writers.
    """
    features = connections[queryset.db].features
    options: dict[str, Any] = {}
    if features.has_select_for_no_key_update:
        options["no_key"] = True
    if features.has_select_for_update_of:
        options["of"] = ("self",)
    if skip_locked and features.has_select_for_update_skip_locked:
        options["skip_locked"] = True
    return queryset.select_for_update(**options)


# One point of priority is worth this head start: higher goes first, yet nothing waits for ever behind it.
PRIORITY_HEAD_START = timedelta(minutes=5)


def rank(due_at: Any, priority: int) -> Any:
    """Return the place in the queue of work that is due at ``due_at`` (datetime or expression): earlier goes first."""
    return due_at - PRIORITY_HEAD_START * priority
