"""Guarded changes of many stage runs at once: the statement behind the engine's hot path.

Each row is changed only while its token and its status are as expected. PostgreSQL takes all rows in one statement;
elsewhere the same statement runs per row, which costs no round trip on SQLite.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.db import connections, models

from .rows import Row, as_json, few, from_json, quoted, stored


def change_guarded(
    using: str,
    rows: Sequence[Row],
    *,
    leaving: str,
    common: Mapping[str, Any],
    own: tuple[str, ...] = (),
    counted: tuple[str, ...] = (),
) -> set[uuid.UUID]:
    """Change stage runs whose token (``held_token``) and status (``leaving``) still hold; return the ids of those.

    Args:
        rows: ``id``, ``held_token`` and the columns named in ``own``.
        common: column -> the value that all get.
        counted: columns that go up by one.
    """
    if not rows:
        return set()
    model: type[models.Model] = apps.get_model("workflow_engine", "StageRun")
    connection = connections[using]
    shared = [stored(model, name, value, connection) for name, value in common.items()]
    if connection.vendor == "postgresql":
        sql = _one_statement(model, tuple(common), own, counted, using)
        with connection.cursor() as cursor:
            cursor.execute(sql, [*shared, as_json([{**row, "leaving": leaving} for row in rows])])
            return {key for (key,) in cursor.fetchall()}
    sql = _per_row(model, tuple(common), own, counted, using)
    changed = set()
    with connection.cursor() as cursor:
        for row in rows:
            mine = [stored(model, name, row[name], connection) for name in own]
            cursor.execute(
                sql, [*shared, *mine, stored(model, "id", row["id"], connection), row["held_token"], leaving]
            )
            if cursor.rowcount == 1:
                changed.add(row["id"])
    return changed


@lru_cache(maxsize=32)
def _one_statement(
    model: type[models.Model], common: tuple[str, ...], own: tuple[str, ...], counted: tuple[str, ...], using: str
) -> str:
    connection = connections[using]
    sets = [f"{quoted(model, name, connection)} = %s" for name in common]
    sets += [f"{quoted(model, name, connection)} = v.{quoted(model, name, connection)}" for name in own]
    sets += [f"{name} = s.{name} + 1" for name in counted]
    source = from_json(model, ("id", *own), connection).replace("v(", "v(held_token bigint, leaving text, ", 1)
    return (
        f"UPDATE {connection.ops.quote_name(model._meta.db_table)} AS s SET {', '.join(sets)} "  # noqa: S608 - names
        # The status as data too: with a literal the planner may read the whole partial index of that status.
        f"FROM {source} WHERE s.id = v.id AND s.token = v.held_token AND s.status = v.leaving "
        f"AND {few('held_token')} RETURNING s.id"
    )


@lru_cache(maxsize=32)
def _per_row(
    model: type[models.Model], common: tuple[str, ...], own: tuple[str, ...], counted: tuple[str, ...], using: str
) -> str:
    connection = connections[using]
    sets = [f"{quoted(model, name, connection)} = %s" for name in (*common, *own)]
    sets += [f"{name} = {name} + 1" for name in counted]
    return (
        f"UPDATE {connection.ops.quote_name(model._meta.db_table)} SET {', '.join(sets)} "  # noqa: S608 - names
        "WHERE id = %s AND token = %s AND status = %s"
    )
