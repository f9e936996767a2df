"""Run the suite once per database backend: ``python -m tests.backends [--backend NAME]... [pytest arguments]``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.backends import mariadb, postgresql, redis_server
from tests.backends.databases import run_id
from tests.backends.search import Absent, Server
from tests.backends.suite import Outcome, run_suites
from tests.backends.summary import closing_lines, table
from tests.backends.verdict import complaints

Found = dict[str, Server | Absent]


def sqlite(_stack: ExitStack) -> Server:
    return Server("", f"part of Python (SQLite {sqlite3.sqlite_version})")


FINDERS: dict[str, Callable[[ExitStack], Server | Absent]] = {
    "sqlite": sqlite,
    "postgresql": postgresql.find,
    "mariadb": mariadb.find,
}
DROPPERS = {"postgresql": postgresql.drop_databases, "mariadb": mariadb.drop_databases}


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0 if every run passed and nothing that is required was absent."""
    options, pytest_arguments = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_of_this_run())
        found: Found = {name: FINDERS[name](stack) for name in options.backend or FINDERS}
        found["redis"] = redis = redis_server.find(stack)
        redis_url = redis.url if isinstance(redis, Server) else ""
        servers = {name: server for name, server in found.items() if name in FINDERS and isinstance(server, Server)}
        for name, server in servers.items():
            stack.callback(drop_leftovers, name, server)
        outcomes = run_suites(
            servers,
            redis_url=redis_url,
            arguments=pytest_arguments,
            scratch=scratch,
            at_once=options.at_once,
            announce=lambda name: announce(name, servers[name]),
        )
        return conclude(found, outcomes)


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.backends",
        description="Run the test suite once per database backend. Other arguments go to pytest.",
        allow_abbrev=False,
    )
    parser.add_argument("--backend", action="append", choices=list(FINDERS), help="only this one; may be repeated")
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        default=min(2, os.cpu_count() or 1),
        help="backends whose suites run side by side (default: %(default)s)",
    )
    return parser.parse_known_args(arguments)


@contextmanager
def scratch_of_this_run() -> Iterator[Path]:
    """Make the directory that tests/settings.py uses too, and remove it with all the SQLite files in it."""
    directory = Path(tempfile.gettempdir()) / f"wfe-tests-{run_id()}"
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def announce(name: str, server: Server) -> None:
    print(f"\n--- {name}: {server.source}", flush=True)


def drop_leftovers(name: str, server: Server) -> None:
    if name in DROPPERS:
        DROPPERS[name](server.url, f"test_wfe_{run_id()}")


def conclude(found: Found, outcomes: dict[str, Outcome]) -> int:
    """Print the table and the totals, keep them in the file ``WFE_TEST_SUMMARY``, and return the exit status."""
    wrong = complaints(found, outcomes)
    lines = closing_lines(outcomes)
    if summary := os.environ.get("WFE_TEST_SUMMARY"):
        Path(summary).write_text("\n".join([*wrong, *lines]) + "\n")
    print(f"\n{table(found, outcomes)}\n")
    print("\n".join([*wrong, lines[-1]]), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
