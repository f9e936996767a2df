"""The servers of a lane: a PostgreSQL that keeps what it has committed, and a Redis that may be killed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.backends.processes import scratch_directory, unprivileged_account
from tests.soak.servers import PostgresServer
from tests.transports.rq.servers import RedisServer, server_binary

# The promise rests on a database that keeps what it has committed, so here it does.
DURABLE = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "max_connections=200", "listen_addresses=")
LOG_OF_REDIS = ("--appendonly", "yes", "--appendfsync", "everysec")


class Redis(RedisServer):
    """A Redis that writes down what it holds, so that it can come back with it or without."""

    def __init__(self, binary: str, directory: Path) -> None:
        super().__init__(binary, directory, *LOG_OF_REDIS)
        self._files = directory / "appendonlydir"

    def crash(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def forget(self) -> None:
        shutil.rmtree(self._files, ignore_errors=True)
        # Where older servers keep it.
        (self._files.parent / "appendonly.aof").unlink(missing_ok=True)


@dataclass(frozen=True)
class Servers:
    redis: Redis
    postgres: PostgresServer


@contextmanager
def servers() -> Iterator[Servers]:
    """Start both; they are gone afterwards. Raises ``SystemExit`` if something is missing."""
    binary = server_binary()
    if binary is None:
        raise SystemExit("Chaos needs a redis-server of its own.")
    with ExitStack() as stack:
        redis = Redis(binary, stack.enter_context(scratch_directory()))
        redis.start()
        stack.callback(redis.stop)
        postgres = PostgresServer(stack.enter_context(scratch_directory(unprivileged_account())), DURABLE)
        stack.callback(postgres.stop)
        postgres.start()
        yield Servers(redis, postgres)
