"""Queries of the hot path, compiled once per process: Django needs longer to compile them than to run them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models import sql

T = TypeVar("T")
MOST_STATEMENTS = 1000
# Stand for the ids in statements that are compiled once for all workers (see ``places``).
THIS_WORKER, THIS_RUN = uuid.UUID(int=1), uuid.UUID(int=2)
THIS_SUBSCRIBER, THIS_LIMIT = "\x02this subscriber\x03", "\x02this limit\x03"
# The first of the numbers that stand for numbers; Django refuses those that no column holds.
FIRST_PLACE = 2_000_000_000
# What a statement needs of the connection it was compiled for (its vendor's conversions) is alike in all threads.
_compiled: dict[Hashable, Any] = {}


def rows_of(
    using: str,
    key: Hashable,
    build: Callable[[], models.QuerySet[Any]],
    params: Sequence[Any] | None = None,
    *,
    places: Mapping[Any, Any] | None = None,
    keep: bool = True,
) -> list[Sequence[Any]]:
    """Return the rows of a ``values_list`` query.

    Args:
        key: stands for everything in the query that is not in ``params``; the same key gives the same statement.
        build: makes the query when the key is new.
        params: the statement's parameters, in their order in its text; None: those it was built with.
        places: ids, or strings, that the query was built with -> what is meant.
        keep: False: the query holds a time and is good for this once.
    """
    connection = connections[using]
    entry = _compiled.get((using, key)) if keep else None
    if entry is None:
        try:
            compiler = build().query.get_compiler(connection=connection)
            statement, built_with = compiler.as_sql()
        except EmptyResultSet:
            return []
        entry = (
            statement,
            built_with,
            compiler,
            compiler.get_converters([column for column, _, _ in compiler.select]),
        )
        if keep:
            _keep((using, key), entry)
    statement, built_with, compiler, converters = entry
    if places is not None:
        built_with = _meant(built_with, places, connection)
    with connection.cursor() as cursor:
        cursor.execute(statement, built_with if params is None else params)
        rows = cursor.fetchall()
    return list(compiler.apply_converters(rows, converters)) if converters else rows


def change_rows(
    using: str,
    key: Hashable,
    build: Callable[[], tuple[models.QuerySet[Any], Mapping[str, Any]]],
    *,
    places: Mapping[Any, Any],
    keep: bool = True,
) -> int:
    """Change rows by an UPDATE that is compiled once; return how many.

    Args:
        build: makes the query and the columns' new values when the key is new.
        key, places, keep: as for ``rows_of``. Among the places there may be numbers.
    """
    connection = connections[using]
    entry = _compiled.get((using, "change", key)) if keep else None
    if entry is None:
        rows, columns = build()
        query: Any = rows.query.chain(sql.UpdateQuery)
        query.add_update_values(columns)
        entry = query.get_compiler(connection=connection).as_sql()
        if keep:
            _keep((using, "change", key), entry)
    statement, built_with = entry
    with connection.cursor() as cursor:
        cursor.execute(statement, _meant(built_with, places, connection))
        return int(cursor.rowcount)


def _keep(key: Hashable, entry: Any) -> None:
    if len(_compiled) >= MOST_STATEMENTS:
        _compiled.clear()
    _compiled[key] = entry


def _meant(params: Sequence[Any], places: Mapping[Any, Any], connection: Any) -> list[Any]:
    meant = {str(_stored(one, connection)): _stored(other, connection) for one, other in places.items()}
    return [meant.get(str(param), param) for param in params]


def forget_statements() -> None:
    """Compile everything anew: for tests that change what queries are made of."""
    _compiled.clear()


def _stored(value: Any, connection: Any) -> Any:
    return models.UUIDField().get_db_prep_value(value, connection) if isinstance(value, uuid.UUID) else value


def padded(ids: Sequence[T]) -> list[T]:
    """Repeat the last of ``ids`` up to a power of two: few lengths, so few statements."""
    return [*ids, *([ids[-1]] * ((1 << (len(ids) - 1).bit_length()) - len(ids)))]
