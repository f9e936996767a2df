from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from example_project.database import database_from_url


def test_a_server_url_gives_each_part_decoded() -> None:
    database = database_from_url("postgresql://me:p%40ss@db.example.org:5433/work%20flows?sslmode=require")

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"]) == ("me", "p@ss")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example.org", "5433", "work flows")
    assert database["OPTIONS"] == {"sslmode": "require"}


def test_mysql_is_known() -> None:
    assert database_from_url("mysql://localhost/flows")["ENGINE"] == "django.db.backends.mysql"


@pytest.mark.parametrize(
    ("url", "name"),
    [("sqlite:///demo.sqlite3", "demo.sqlite3"), ("sqlite:////data/demo.sqlite3", "/data/demo.sqlite3")],
)
def test_sqlite_is_set_up_for_several_processes(url: str, name: str) -> None:
    database = database_from_url(url)

    assert database["NAME"] == Path(name)
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize("url", ["oracle://localhost/flows", "postgresql://me:secret@localhost", "flows"])
def test_a_url_that_cannot_be_used_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="WFE_DATABASE_URL") as caught:
        database_from_url(url)

    assert "secret" not in str(caught.value)
