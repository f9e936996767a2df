"""The DBOS application, and the process that takes workflows from its queue: ``python -m ... URL PROCESSES``."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import Any

from dbos import DBOS, DBOSConfig

QUEUE = "bench"
VERSION = "bench"


@DBOS.step()
def step(value: Any) -> Any:
    return value


@DBOS.step()
async def member(value: Any) -> Any:
    return value


@DBOS.step()
async def join(values: list[int]) -> int:
    return sum(values)


@DBOS.workflow()
def line(value: Any) -> Any:
    for _ in range(5):
        value = step(value)
    return value


@DBOS.workflow()
async def fan(value: Any) -> Any:
    return await join(await asyncio.gather(*(member(value) for _ in range(10))))


def config(url: str, executor: str) -> DBOSConfig:
    """As shipped, but quiet; one version, so that client and workers agree on it."""
    return {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        "application_version": VERSION,
        "executor_id": executor,
    }


def serve(url: str, executor: str) -> None:
    DBOS(config=config(url, executor))
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=8, polling_interval_sec=0.01)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    DBOS.destroy()


if __name__ == "__main__":
    serve(*sys.argv[1:])
