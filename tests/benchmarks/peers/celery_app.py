"""The Celery application: broker and results in Redis, everything else as shipped."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, chord, group

URL = os.environ["BENCH_REDIS"]
# A Unix socket is spelled differently for the broker and for the results.
SOCKET = URL.replace("unix://", "redis+socket://", 1)

app = Celery("bench", broker=SOCKET, backend=SOCKET)


@app.task
def start(value: Any) -> Any:
    return value


@app.task
def step(value: Any) -> Any:
    return value


@app.task
def join(values: list[int]) -> int:
    return sum(values)


def line(value: Any) -> Any:
    """Return a new chain of five: a canvas that is used twice would use its task ids twice."""
    return chain(start.s(value), *(step.s() for _ in range(4)))


def fan(value: Any) -> Any:
    return chord(group(start.s(value) for _ in range(10)), join.s())
