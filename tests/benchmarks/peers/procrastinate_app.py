"""The Procrastinate application: each job defers the next one of its run."""

from __future__ import annotations

import os
from typing import Any

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))
STEPS = 5


@app.task(name="step")
async def step(value: Any, number: int) -> None:
    following = last if number + 1 == STEPS else step
    await following.defer_async(value=value, number=number + 1)


@app.task(name="last")
async def last(value: Any, number: int) -> None:
    return None
