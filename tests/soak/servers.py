"""The servers of one soak: a Redis and a PostgreSQL of its own to be killed, or a database on one that is found."""

from __future__ import annotations

import argparse
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.backends import mariadb, postgresql
from tests.backends.databases import run_id
from tests.backends.postgres_cluster import installed, readable
from tests.backends.processes import identity, run, scratch_directory, stop, unprivileged_account
from tests.backends.search import Absent
from tests.transports.rq.servers import RedisServer, server_binary
from tests.waiting import until

# No fsync: processes die here, never the machine. Commits wait for the log all the same.
CHOICES = ("fsync=off", "full_page_writes=off", "max_connections=300", "listen_addresses=")


class PostgresServer:
    """A cluster of our own. Its database is ``postgres``."""

    def __init__(self, directory: Path, choices: Sequence[str] = CHOICES) -> None:
        self._directory, self._choices, self._account = directory, choices, unprivileged_account()
        self._binaries = readable(installed(postgresql.OLDEST), directory, self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@/postgres?host={quote(str(directory), safe='')}&port=5432"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        run([self._binaries / "initdb", "--pgdata", directory / "data", *options], self._account)

    def start(self) -> None:
        choices = [f"-c{choice}" for choice in (*self._choices, f"unix_socket_directories={self._directory}")]
        with (self._directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._directory / "data"), *choices],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                **identity(self._account),
            )  # fmt: skip
        until(lambda: postgresql.answers(self.url), "PostgreSQL answers")

    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    def crash(self) -> None:
        """Stop it at once, as a crash would: no checkpoint, connections cut."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            stop(self._process)


class Servers:
    def __init__(self, redis: RedisServer, database: str, postgres: PostgresServer | None) -> None:
        self.redis, self.database, self.postgres = redis, database, postgres


@contextmanager
def servers(options: argparse.Namespace) -> Iterator[Servers]:
    """Start what is needed; all of it is gone afterwards. Raises ``SystemExit`` if something is missing."""
    binary = server_binary()
    if binary is None:
        raise SystemExit("The soak needs a redis-server of its own.")
    with ExitStack() as stack:
        redis = RedisServer(binary, stack.enter_context(scratch_directory()))
        redis.start()
        stack.callback(redis.stop)
        if options.backend == "sqlite":
            yield Servers(redis, "", None)
        elif options.restart_postgres or (options.wide and options.backend == "postgresql"):
            directory = stack.enter_context(scratch_directory(unprivileged_account()))
            postgres = PostgresServer(directory)
            stack.callback(postgres.stop)
            postgres.start()
            yield Servers(redis, postgres.url, postgres)
        else:
            yield Servers(redis, create_database(stack, options.backend, "wfe_soak"), None)


def create_database(stack: ExitStack, backend: str, start: str) -> str:
    """Create a database on the server that is found; return its URL."""
    finder = {"postgresql": postgresql, "mariadb": mariadb}[backend]
    server = finder.find(stack)
    if isinstance(server, Absent):
        raise SystemExit(f"This needs {backend}: {server.reason}.")
    name = f"{start}_{run_id()}"
    if backend == "postgresql":
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    else:
        with mariadb.connect(server.url) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    stack.callback(finder.drop_databases, server.url, name)
    return urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
