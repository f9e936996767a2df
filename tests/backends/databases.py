"""Django's database settings for a backend and the URL of its server."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

Settings = dict[str, Any]


def run_id() -> str:
    """Return what makes the names of this test run unique; child processes inherit it by the environment."""
    return os.environ.setdefault("WFE_TEST_RUN", f"{os.getpid()}_{secrets.token_hex(2)}")


def database_settings(backend: str, url: str, scratch: Path) -> Settings:
    """Return one entry of ``DATABASES`` whose test database has a name of its own.

    Raises:
        ValueError: ``backend`` is unknown, or it needs a server and ``url`` is empty.
    """
    if backend == "sqlite":
        return sqlite(scratch)
    if backend not in BUILDERS:
        raise ValueError(f"Unknown WFE_TEST_BACKEND {backend!r}. Use one of: sqlite, {', '.join(BUILDERS)}.")
    if not url:
        raise ValueError(f"WFE_TEST_BACKEND is {backend!r}: WFE_TEST_DATABASE_URL must name its server.")
    return BUILDERS[backend](url)


def sqlite(scratch: Path) -> Settings:
    """A file, because threads cannot share a database in memory the way processes share a real one."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "TEST": {"NAME": str(scratch / "test.sqlite3")},
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def postgresql(url: str) -> Settings:
    return {
        **address(url),
        "ENGINE": "django.db.backends.postgresql",
        "NAME": urlsplit(url).path.strip("/") or "postgres",
        # Asked for by each connection, so that a server which is not ours stays as it is.
        "OPTIONS": {"options": "-c synchronous_commit=off"},
        "TEST": {"NAME": f"test_wfe_{run_id()}", "CHARSET": "UTF8", "TEMPLATE": "template0"},
    }


def mariadb(url: str) -> Settings:
    return {
        **address(url),
        "ENGINE": "django.db.backends.mysql",
        "NAME": urlsplit(url).path.strip("/"),
        "OPTIONS": {"charset": "utf8mb4", "init_command": "SET sql_mode='STRICT_TRANS_TABLES'"},
        "TEST": {"NAME": f"test_wfe_{run_id()}", "CHARSET": "utf8mb4"},
    }


def address(url: str) -> Settings:
    """Return HOST, PORT, USER and PASSWORD; a Unix socket is named by the query: ``?host=/run/postgresql``."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return {
        "HOST": query.get("host") or parts.hostname or "",
        "PORT": query.get("port") or str(parts.port or ""),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }


BUILDERS = {"postgresql": postgresql, "mariadb": mariadb}
