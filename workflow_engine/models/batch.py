"""The end of every transaction: new rows, events and the runs' new states, in as few statements as can be.

PostgreSQL takes all of it in one statement: the rows travel as JSON, and the inserts and the update are parts of one
``WITH``. That is safe because the runs are locked by a statement of their own before, and nothing here is decided by
what is read here. Elsewhere it is one prepared statement per table.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connections, models

from .base import PRIORITY_HEAD_START
from .limits import RunPlace
from .rows import Row, as_json, few, from_json, quoted, stored
from .runs import WorkflowRun

_RUNS = WorkflowRun._meta.db_table
# Rows with a priority, whose rank follows from it.
_RANKED = (WorkflowRun, RunPlace)
# What a change may set beside the status; left as it is where the change does not say.
_CHANGED = ("started_at", "finished_at", "deadline_at", "error", "total_cost", "total_tokens")


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run takes the next ``events`` event numbers, and a status (None: keeps it), leaving one of at most two."""

    run_id: uuid.UUID
    events: int
    status: str | None
    leaving: tuple[str, ...]
    columns: Mapping[str, Any]


@dataclass(slots=True)
class Batch:
    """New rows by their columns' names, every column that has no NULL included; and changes of runs.

    On PostgreSQL a time that is None in a column without NULL is the statement's own (``written_at``).
    """

    rows: dict[type[models.Model], list[Row]] = field(default_factory=dict)
    runs: list[RunChange] = field(default_factory=list)
    written_at: datetime | None = None

    def insert(self, model: type[models.Model], rows: Iterable[Row]) -> None:
        self.rows.setdefault(model, []).extend(rows)

    def write(self, using: str) -> bool:
        """Write everything; False if one of the runs was not in a status it may leave: then roll back."""
        tables = [(model, rows) for model, rows in self.rows.items() if rows]
        if not tables and not self.runs:
            return True
        if connections[using].vendor == "postgresql":
            return self._write_at_once(using, tables)
        for model, rows in tables:
            _insert(using, model, rows)
        return self._change_runs(using)

    def _write_at_once(self, using: str, tables: Sequence[tuple[type[models.Model], list[Row]]]) -> bool:
        shape = tuple((model, tuple(rows[0])) for model, rows in tables)
        params = [as_json(rows) for _, rows in tables]
        if self.runs:
            params.append(as_json([_change_row(change) for change in self.runs]))
        with connections[using].cursor() as cursor:
            cursor.execute(_statement(shape, bool(self.runs), using), params)
            changed, self.written_at = cursor.fetchone()
        return bool(changed == len(self.runs))

    def _change_runs(self, using: str) -> bool:
        if not self.runs:
            return True
        connection = connections[using]
        rows = [
            [
                change.events,
                change.status,
                *(stored(WorkflowRun, name, change.columns.get(name), connection) for name in _CHANGED),
                stored(WorkflowRun, "id", change.run_id, connection),
                change.leaving[0],
                change.leaving[-1],
            ]
            for change in self.runs
        ]
        with connection.cursor() as cursor:
            cursor.executemany(_CHANGE_RUN, rows)
            return bool(cursor.rowcount == len(rows))


def _insert(using: str, model: type[models.Model], rows: Sequence[Row]) -> None:
    connection, names = connections[using], tuple(rows[0])
    prepare = [model._meta.get_field(name).get_db_prep_save for name in names]  # type: ignore[union-attr]
    values = [[prep(row[name], connection) for name, prep in zip(names, prepare, strict=True)] for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(_insert_values(model, names, using), values)


def columns_of(row: models.Model) -> dict[str, Any]:
    """Return an unsaved row's values by column name, without a key that the database gives."""
    return {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if not isinstance(field, models.AutoField | models.BigAutoField)
    }


_CHANGE_RUN = (
    f"UPDATE {_RUNS} SET event_seq = event_seq + %s, status = COALESCE(%s, status), "  # noqa: S608 - names only
    + ", ".join(f"{name} = COALESCE(%s, {name})" for name in _CHANGED)
    + " WHERE id = %s AND (status = %s OR status = %s)"
)


def _change_row(change: RunChange) -> dict[str, Any]:
    return {
        "id": change.run_id,
        "events": change.events,
        "to_status": change.status,
        "leaving": change.leaving[0],
        "or_leaving": change.leaving[-1],
        **change.columns,
    }


@lru_cache(maxsize=64)
def _statement(shape: tuple[tuple[type[models.Model], tuple[str, ...]], ...], runs: bool, using: str) -> str:
    parts = [f"i{number} AS ({_insert_from_json(model, names, using)})" for number, (model, names) in enumerate(shape)]
    if not runs:
        return f"WITH {', '.join(parts)} SELECT 0, STATEMENT_TIMESTAMP()"
    sets = ", ".join(f"{name} = COALESCE(v.{name}, r.{name})" for name in _CHANGED)
    parts.append(
        f"changed AS (UPDATE {_RUNS} AS r SET event_seq = r.event_seq + v.events, "  # noqa: S608 - names only
        f"status = COALESCE(v.to_status, r.status), {sets} "
        "FROM jsonb_to_recordset(%s::jsonb) AS v(id uuid, events integer, to_status text, leaving text, "
        "or_leaving text, started_at timestamptz, finished_at timestamptz, deadline_at timestamptz, error jsonb, "
        "total_cost float8, total_tokens bigint) "
        f"WHERE r.id = v.id AND r.status IN (v.leaving, v.or_leaving) AND {few('events')} RETURNING 1)"
    )
    return f"WITH {', '.join(parts)} SELECT count(*), STATEMENT_TIMESTAMP() FROM changed"  # noqa: S608 - names only


@lru_cache(maxsize=64)
def _insert_from_json(model: type[models.Model], names: tuple[str, ...], using: str) -> str:
    connection = connections[using]
    columns = ", ".join(quoted(model, name, connection) for name in names)
    values = ", ".join(_value(model, name, quoted(model, name, connection)) for name in names)
    table = connection.ops.quote_name(model._meta.db_table)
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {from_json(model, names, connection)}"  # noqa: S608


def _value(model: type[models.Model], name: str, column: str) -> str:
    field = model._meta.get_field(name)
    if not isinstance(field, models.DateTimeField) or field.null:
        return column
    if name == "rank_at" and model in _RANKED:
        seconds = PRIORITY_HEAD_START.total_seconds()
        return f"COALESCE(rank_at, STATEMENT_TIMESTAMP() - priority * INTERVAL '{seconds:g} seconds')"
    return f"COALESCE({column}, STATEMENT_TIMESTAMP())"


@lru_cache(maxsize=64)
def _insert_values(model: type[models.Model], names: tuple[str, ...], using: str) -> str:
    connection = connections[using]
    columns = ", ".join(quoted(model, name, connection) for name in names)
    places = ", ".join(["%s"] * len(names))
    table = connection.ops.quote_name(model._meta.db_table)
    return f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - names only
