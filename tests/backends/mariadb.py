"""MariaDB (or MySQL): only a server that runs already; no wheel brings one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pymysql

from tests.backends.databases import address
from tests.backends.search import Absent, NotHere, Server, search

SOCKETS = ("/run/mysqld/mysqld.sock", "/tmp/mysql.sock")


def find(stack: ExitStack) -> Server | Absent:
    """Return a MariaDB that lets root in without a password, or the one that the environment names."""
    return search(stack, named_by="WFE_TEST_MARIADB_URL", named=named, local=local)


def named(url: str) -> Server:
    return Server(url, f"WFE_TEST_MARIADB_URL ({usable(url)})")


def local(_stack: ExitStack) -> Server:
    reason = ""
    for place, url in {
        "127.0.0.1": "mysql://root@127.0.0.1:3306/",
        **{socket: f"mysql://root@/?host={socket}" for socket in SOCKETS},
    }.items():
        try:
            return Server(url, f"running at {place} ({usable(url)})")
        except NotHere as error:
            reason = reason or str(error)
    raise NotHere(f"no local server lets root in without a password ({reason})")


def usable(url: str) -> str:
    """Return the product and version of the server. Raises ``NotHere`` with what is wrong otherwise."""
    try:
        with connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            (version,) = cursor.fetchone() or ("",)
    except (pymysql.MySQLError, OSError) as error:
        raise NotHere(str(error.args[-1])) from error
    return f"{'MariaDB' if 'mariadb' in version.lower() else 'MySQL'} {version.split('-')[0]}"


def connect(url: str) -> Any:
    where = address(url)
    host = {"unix_socket": where["HOST"]} if where["HOST"].startswith("/") else {"host": where["HOST"] or "127.0.0.1"}
    return pymysql.connect(
        **host, port=int(where["PORT"] or 3306), user=where["USER"], password=where["PASSWORD"], connect_timeout=3
    )


def drop_databases(url: str, prefix: str) -> None:
    """Drop what a killed test process left behind: databases whose name starts with ``prefix``."""
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        for (name,) in cursor.fetchall():
            if name.startswith(prefix):
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
