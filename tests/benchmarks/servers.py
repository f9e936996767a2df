"""The servers to measure on, and fresh databases for each case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from redis import Redis

from tests.backends import postgresql, redis_server
from tests.backends.search import Absent, NotHere, Server, search

PREFIX = "wfe_bench"
LOCK = 0x77666562
LOCAL_REDIS = "redis://127.0.0.1:6379/8"
MARK = "wfe-bench"


class Servers:
    """PostgreSQL and Redis for the time of one benchmark. Databases are named ``wfe_bench_...``."""

    def __init__(self, postgres: Server, redis: Server, admin: psycopg.Connection[Any]) -> None:
        self.postgres, self.redis, self._admin = postgres, redis, admin

    @classmethod
    @contextmanager
    def found(cls) -> Iterator[Self]:
        """Find or start both, as the tests do. Raises ``SystemExit`` with the reason if one is missing."""
        with ExitStack() as stack:
            postgres = present("PostgreSQL", postgresql.find(stack))
            ways = {"local": local_redis, "path": redis_server.from_path, "bundled": redis_server.from_wheel}
            redis = present("Redis", search(stack, named_by="WFE_BENCH_REDIS_URL", named=named_redis, **ways))
            admin = stack.enter_context(psycopg.connect(postgres.url, autocommit=True))
            if not admin.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone()[0]:  # type: ignore[index]
                raise SystemExit("Another benchmark runs on this PostgreSQL server: wait until it has ended.")
            servers = cls(postgres, redis, admin)
            servers.empty_redis()
            stack.callback(servers.clean_up)
            yield servers

    def make_template(self, name: str) -> str:
        """Create an empty database whose tables the caller makes; return its URL."""
        self._create(f"{name}_template")
        return self.url(f"{name}_template")

    def fresh(self, name: str) -> str:
        """Replace a database by a copy of its template; return its URL."""
        self._create(name, template=f"{PREFIX}_{name}_template")
        return self.url(name)

    def _create(self, name: str, template: str = "template0") -> None:
        names = {"name": sql.Identifier(f"{PREFIX}_{name}"), "template": sql.Identifier(template)}
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {name} WITH (FORCE)").format(**names))
        self._admin.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))

    def url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.postgres.url)._replace(path=f"/{PREFIX}_{name}"))

    def checkpoint(self) -> None:
        """Write out what earlier cases left, so that no case pays for another; only a superuser may."""
        try:
            self._admin.execute("CHECKPOINT")
        except psycopg.errors.InsufficientPrivilege:
            return

    def empty_redis(self) -> None:
        """Empty our Redis database. Raises ``SystemExit`` if it holds what is not ours."""
        with Redis.from_url(self.redis.url) as client:
            if client.dbsize() and not client.exists(MARK):
                raise SystemExit(f"{self.redis.url} is not empty. Name a database to use with WFE_BENCH_REDIS_URL.")
            client.flushdb()
            client.set(MARK, "in use by a benchmark")

    def clean_up(self) -> None:
        postgresql.drop_databases(self.postgres.url, f"{PREFIX}_")
        with Redis.from_url(self.redis.url) as client:
            if client.exists(MARK):
                client.flushdb()

    def facts(self) -> dict[str, str]:
        """Return what the figures depend on: versions, and whether a commit waits for the disk."""
        names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        shown = {name: self._admin.execute(f"SHOW {name}").fetchone()[0] for name in names}  # type: ignore[index]
        return {"postgresql": self.postgres.source, "redis": self.redis.source, **shown}


def present(what: str, server: Server | Absent) -> Server:
    if isinstance(server, Absent):
        raise SystemExit(f"The benchmark needs {what}: {server.reason}.")
    return server


def named_redis(url: str) -> Server:
    return Server(url, f"WFE_BENCH_REDIS_URL ({redis_server.product(url)})")


def local_redis(_stack: ExitStack) -> Server:
    if not redis_server.answers(LOCAL_REDIS):
        raise NotHere("no local server lets us in")
    return Server(LOCAL_REDIS, f"running at 127.0.0.1 ({redis_server.product(LOCAL_REDIS)})")
