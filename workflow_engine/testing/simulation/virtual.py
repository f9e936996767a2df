"""Time, chance and ids of a schedule: for the engine's own modules they come from the seed, for nobody else."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import workflow_engine.ids
import workflow_engine.models.base
from workflow_engine.models.base import DbNow
from workflow_engine.testing.clock import START

PACKAGE = "workflow_engine."


class VirtualTime:
    """Stands in for the module ``time``."""

    def __init__(self, seconds: Callable[[], float], sleep: Callable[[float], None], skew: Callable[[], float]) -> None:
        self._seconds, self._skew, self.sleep = seconds, skew, sleep

    def monotonic(self) -> float:
        return self._seconds()

    def perf_counter(self) -> float:
        return self._seconds()

    def time(self) -> float:
        return START.timestamp() + self._seconds() + self._skew()

    def time_ns(self) -> int:
        return int(self.time() * 1_000_000) * 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class VirtualOs:
    """Stands in for the module ``os`` where ids are made; threads that have no part in it get the real thing."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._thread = chance, threading.get_ident()

    def urandom(self, size: int) -> bytes:
        return self._chance.randbytes(size) if threading.get_ident() == self._thread else os.urandom(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class HostClock:
    """Implements ``Clock`` for one host, whose own time may be wrong; the database's is nobody's but its own."""

    def __init__(self, seconds: Callable[[], float], sleep: Callable[[float], None], skew: float) -> None:
        self._seconds, self.pause, self.skew = seconds, sleep, skew

    def now(self) -> datetime:
        return START + timedelta(seconds=self._seconds() + self.skew)

    def db_now(self) -> DbNow:
        return DbNow()


@contextmanager
def virtual(
    chance: random.Random, seconds: Callable[[], float], sleep: Callable[[float], None], skew: Callable[[], float]
) -> Iterator[None]:
    """Let the engine's modules ask the schedule for the time, for random numbers and for ids."""
    hosts, databases = VirtualTime(seconds, sleep, skew), VirtualTime(seconds, sleep, lambda: 0.0)
    ids, numbers = VirtualOs(chance), random.Random(chance.random())  # noqa: S311 - not a secret
    replaced: list[tuple[ModuleType, str, Any]] = []

    def replace(module: ModuleType, name: str, value: Any) -> None:
        replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    for module in [item for name, item in sys.modules.items() if name.startswith(PACKAGE) and item is not None]:
        if module.__name__ == __name__:
            continue
        if module.__dict__.get("time") is time:
            replace(module, "time", hosts)
        if module.__dict__.get("random") is random and not module.__name__.startswith("workflow_engine.testing"):
            replace(module, "random", numbers)
    # The database's time on SQLite is this process's, whichever host asks.
    replace(workflow_engine.models.base, "time", databases)
    replace(workflow_engine.ids, "os", ids)
    replace(workflow_engine.ids, "_last", 0)
    replace(uuid, "os", ids)
    try:
        yield
    finally:
        for module, name, value in reversed(replaced):
            setattr(module, name, value)
