"""Rows as plain data: how they travel to PostgreSQL as JSON, and to the others as parameters."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

Row = Mapping[str, Any]


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps(rows, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def from_json(model: type[models.Model], names: Sequence[str], connection: BaseDatabaseWrapper) -> str:
    """Return the ``FROM`` item ``v`` that makes rows of one JSON parameter, on PostgreSQL."""
    typed = [f"{quoted(model, name, connection)} {_type(model, name, connection)}" for name in names]
    return f"jsonb_to_recordset(%s::jsonb) AS v({', '.join(typed)})"


def few(column: str) -> str:
    """Return a condition on ``v`` that always holds, for a whole number: few rows, the planner is to think.

    It takes any JSON for a hundred rows, and rather than look those up it may read the table they are joined to: for
    good, if the statement was prepared while that table was young.
    """
    return f"v.{column} + 0 = v.{column}"


def _type(model: type[models.Model], name: str, connection: BaseDatabaseWrapper) -> str:
    db_type = model._meta.get_field(name).db_type(connection)
    # The table's own limit complains about a text that is too long; a cast would cut it.
    return "text" if db_type is None or db_type.startswith("varchar") else db_type


def quoted(model: type[models.Model], name: str, connection: BaseDatabaseWrapper) -> str:
    return connection.ops.quote_name(str(model._meta.get_field(name).column))  # type: ignore[union-attr]


def stored(model: type[models.Model], name: str, value: Any, connection: BaseDatabaseWrapper) -> Any:
    """Return the value as the driver takes it."""
    return model._meta.get_field(name).get_db_prep_save(value, connection)  # type: ignore[union-attr]
