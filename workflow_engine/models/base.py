"""What several tables share: row locks and the database's clock, on every database Django speaks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from django.db import connections, models
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=models.Model)

# When something is due that somebody will let go: before that it is not in the way of any queue.
HELD_BACK = datetime(9999, 1, 1, tzinfo=UTC)


def constant(status: Enum) -> RawSQL:
    """Return a status as part of a statement's text: for conditions that a partial index is to answer.

    A prepared statement that is planned once for all its parameters cannot use the index of one value of them, and
    reads the whole table instead (PostgreSQL's generic plans, ``plan_cache_mode``; SQLite alike).
    """
    return RawSQL(f"'{status.value}'", ())  # noqa: S611 - our own words


class DbNow(Now):
    """The database's clock, so that hosts' clocks do not matter. UTC whatever the session's time zone is."""

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> Any:
        # Milliseconds are all it has; written like Django's own times, since they are compared as text.
        return self.as_sql(
            compiler, connection, template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'NOW')", **extra
        )

    def as_mysql(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP is in the session's zone there, and Django stores naive UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class DbClock(DbNow):
    """``DbNow`` at the moment a row is read: after the wait for its lock, not when the statement began."""

    def as_postgresql(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **extra)


def read_clock(using: str) -> datetime:
    """Ask the database for its time."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        # It has no clock but this process's.
        now = datetime.fromtimestamp(time.time(), UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
    statement = "SELECT UTC_TIMESTAMP(6)" if connection.vendor == "mysql" else "SELECT STATEMENT_TIMESTAMP()"
    with connection.cursor() as cursor:
        cursor.execute(statement)
        (now,) = cursor.fetchone()
    return now if now.tzinfo else now.replace(tzinfo=UTC)  # type: ignore[no-any-return]


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
    if isinstance(due_at, datetime):
        # A zone with summer time would make five minutes of one point something else now and then.
        due_at = due_at.astimezone(UTC)
    return due_at - PRIORITY_HEAD_START * priority
