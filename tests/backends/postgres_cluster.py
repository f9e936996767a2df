"""A throw-away PostgreSQL of our own: fast, not durable, reachable by a Unix socket only."""

from __future__ import annotations

import pwd
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.backends.processes import run, scratch_directory, server_process, unprivileged_account
from tests.backends.search import NotHere

PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


def installed(oldest: int) -> Installation:
    """Return the newest PostgreSQL of this machine. Raises ``NotHere`` if none is as new as ``oldest``."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += [place for pattern in PLACES for place in Path("/").glob(pattern)]
    complete = [place for place in places if (place / "postgres").exists() and (place / "initdb").exists()]
    versions = {major(place): place for place in complete}
    if not versions or max(versions) < oldest:
        raise NotHere(f"no initdb of PostgreSQL {oldest} or newer on PATH or in /usr/lib/postgresql")
    return Installation(versions[max(versions)])


def major(binaries: Path) -> int:
    """Return 15 for ``postgres (PostgreSQL) 15.8 (Debian ...)``."""
    match = re.search(r"\) (\d+)", run([binaries / "postgres", "--version"]))
    return int(match[1]) if match else 0


@dataclass(frozen=True)
class Installation:
    """Where ``postgres`` is, and what to copy when the account that runs it may not read it: ``parts`` of ``root``."""

    binaries: Path
    root: Path | None = None
    parts: tuple[str, ...] = ()


@contextmanager
def cluster(installation: Installation, *, answers: Callable[[str], bool]) -> Iterator[str]:
    """Start a server in a directory of its own and yield its URL; it is gone afterwards."""
    account = unprivileged_account()
    with scratch_directory(account) as directory:
        binaries = readable(installation, directory, account)
        data = directory / "data"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        run([binaries / "initdb", "--pgdata", data, *options], account)
        url = f"postgresql://postgres@/postgres?host={quote(str(directory), safe='')}&port=5432"
        choices = [f"-c{choice}" for choice in (*FAST, "listen_addresses=", f"unix_socket_directories={directory}")]
        command = [str(binaries / "postgres"), "-D", str(data), *choices]
        with server_process(command, log=directory / "log", answers=lambda: answers(url), account=account):
            yield url


def readable(installation: Installation, directory: Path, account: pwd.struct_passwd | None) -> Path:
    """Return binaries that the account can run: a copy, if they lie in somebody's private directory."""
    binaries, root = installation.binaries, installation.root
    try:
        run([binaries / "initdb", "--version"], account)
    except NotHere:
        if account is None or root is None:
            raise
        for part in installation.parts:
            if (root / part).is_dir():
                shutil.copytree(root / part, directory / "server" / part, symlinks=True)
        return directory / "server" / binaries.relative_to(root)
    return binaries
