"""Turn a database URL into an entry of Django's `DATABASES`."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

SERVERS = {
    "postgresql": "django.db.backends.postgresql",
    "postgres": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def database_from_url(url: str) -> dict[str, Any]:
    """Read `sqlite:///file`, `postgresql://user:password@host:port/name` or `mysql://…`.

    Query parameters become `OPTIONS`. An SQLite path with three slashes is relative to the working directory, with
    four it is absolute.

    Raises:
        ImproperlyConfigured: the scheme is not one of the three, or the name is missing.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if not name:
        raise ImproperlyConfigured(
            f"WFE_DATABASE_URL names no database in its path: {parts.scheme}://…/<name> is right."
        )
    if parts.scheme == "sqlite":
        return sqlite_database(Path(name))
    if parts.scheme not in SERVERS:
        raise ImproperlyConfigured(
            f"WFE_DATABASE_URL has the scheme {parts.scheme!r}. Known: sqlite, {', '.join(SERVERS)}."
        )
    return {
        "ENGINE": SERVERS[parts.scheme],
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 60,
    }


def sqlite_database(path: Path) -> dict[str, Any]:
    """Open a file for several processes: readers never wait, and a writer waits its turn instead of failing."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL;",
            "timeout": 20,
        },
    }
