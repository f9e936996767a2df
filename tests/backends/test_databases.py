"""The runner's own tests: what settings a URL becomes, and how a run ends."""

from pathlib import Path

import pytest
from django.db import connection

from tests.backends.databases import database_settings
from tests.backends.search import Absent, Server
from tests.backends.suite import Outcome
from tests.backends.summary import closing_lines, table
from tests.backends.verdict import complaints

SOCKET_URL = "postgresql://po%40st@/postgres?host=%2Frun%2Fpostgresql&port=5433"


@pytest.mark.smoke
@pytest.mark.django_db
def test_the_suite_talks_to_the_backend_it_was_asked_for(backend):
    assert (connection.vendor, connection.settings_dict["NAME"] != "postgres") == (
        "mysql" if backend == "mariadb" else backend,
        True,
    )


def test_a_socket_in_the_query_becomes_the_host():
    settings = database_settings("postgresql", SOCKET_URL, Path())

    assert (settings["HOST"], settings["PORT"], settings["USER"]) == ("/run/postgresql", "5433", "po@st")


def test_a_backend_without_its_url_is_refused_by_the_name_of_the_variable():
    with pytest.raises(ValueError, match="WFE_TEST_DATABASE_URL"):
        database_settings("mariadb", "", Path())


def test_an_absent_server_fails_the_run_only_where_it_is_required(monkeypatch):
    monkeypatch.delenv("WFE_TEST_SERVERS", raising=False)
    absent = {"postgresql": Absent("nothing answers"), "mariadb": Absent("nothing answers")}

    monkeypatch.setenv("CI", "true")
    under_ci = complaints(absent, {})
    monkeypatch.delenv("CI")
    at_home = complaints(absent, {})

    assert (under_ci, at_home) == (["FAILED postgresql: nothing answers"], [])


def test_the_last_line_holds_the_totals_of_all_backends():
    outcomes = {
        "sqlite": Outcome(status=0, seconds=1.5, passed=3, skipped=1, words="3 passed, 1 skipped"),
        "postgresql": Outcome(status=1, seconds=2, passed=3, failed=1, words="1 failed, 3 passed"),
    }

    lines = closing_lines(outcomes)

    assert lines == [
        "sqlite: 3 passed, 1 skipped in 1.50s",
        "postgresql: 1 failed, 3 passed in 2.00s",
        "6 passed, 1 failed, 1 skipped",
    ]


def test_the_table_says_why_a_backend_is_absent():
    found = {"sqlite": Server("", "part of Python"), "mariadb": Absent("nothing answers")}

    lines = table(found, {"sqlite": Outcome(status=0, seconds=1, passed=3)}).splitlines()

    assert lines[1].split() == ["sqlite", "3", "0", "0", "1.0", "part", "of", "Python"]
    assert lines[2].endswith("absent: nothing answers")
