"""Tests that commit leave rows behind: delete those, and touch no table that has none.

Django's own way truncates every table and makes the permissions of every model anew: more than a second a test on
PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.core.management.color import no_style
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

# Made by the migrations, and the same in every test.
LASTING = {"django_migrations", "django_content_type", "auth_permission"}


def install() -> None:
    """Let every test that commits be tidied up after like this."""
    TransactionTestCase._fixture_teardown = _fixture_teardown  # type: ignore[attr-defined]


def _fixture_teardown(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        empty(connections[alias])


def empty(connection: BaseDatabaseWrapper) -> None:
    """Delete all rows but those of the migrations."""
    if used := [table for table in _tables_with_rows(connection) if table not in LASTING]:
        if connection.vendor == "postgresql":
            # Keys between tables are looked at when the transaction ends.
            statements = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in used]
        else:
            statements = connection.ops.sql_flush(no_style(), used)
        connection.ops.execute_sql_flush(statements)


def _tables_with_rows(connection: BaseDatabaseWrapper) -> list[str]:
    tables = [model._meta.db_table for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(_asking(connection, dict.fromkeys(tables))))
        return [row[0] for row in cursor.fetchall()]


def _asking(connection: BaseDatabaseWrapper, tables: Iterable[str]) -> list[str]:
    quote = connection.ops.quote_name
    return [f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})" for table in tables]
