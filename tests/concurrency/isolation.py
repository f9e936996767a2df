"""Connections of another isolation level than the database's own."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
from django.conf import settings
from django.db import connection

# On MariaDB the one that Django asks for.
LEVELS = {
    "postgresql": ("read committed", "repeatable read", "serializable"),
    "mariadb": ("read committed",),
    "sqlite": ("serializable",),
}


@pytest.fixture(params=LEVELS[settings.BACKEND], ids=lambda level: level.replace(" ", "-"))
def isolation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let every connection that is opened during the test have this isolation level."""
    # Those of other threads are made of the same options.
    connection.close()
    with mock.patch.dict(connection.settings_dict["OPTIONS"], options_for(request.param)):
        assert level_now() == request.param
        yield request.param
        connection.close()


def options_for(level: str) -> dict[str, str]:
    if settings.BACKEND == "mariadb":
        return {"isolation_level": level}
    # So that it is also that of a statement which is a transaction by itself.
    before = connection.settings_dict["OPTIONS"]["options"]
    return {"options": f"{before} -c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"}


def level_now() -> str:
    name = "transaction_isolation" if settings.BACKEND == "postgresql" else "@@tx_isolation"
    with connection.cursor() as cursor:
        cursor.execute(f"{'SHOW' if settings.BACKEND == 'postgresql' else 'SELECT'} {name}")
        return str(cursor.fetchone()[0]).lower().replace("-", " ")
