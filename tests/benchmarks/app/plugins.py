"""Who hears of events, where that is measured: each process notes how long after their time they came."""

from __future__ import annotations

import os
import time
from pathlib import Path

from workflow_engine import RunEvent, plugin


def notes() -> list[Path]:
    return sorted(Path(os.environ["WFE_BENCH_SCRATCH"]).glob("heard-*"))


def note(event: RunEvent) -> None:
    late = time.time() - event.occurred_at.timestamp()
    with Path(os.environ["WFE_BENCH_SCRATCH"], f"heard-{os.getpid()}").open("a") as file:
        file.write(f"{event.run_id} {event.sequence} {late:.6f}\n")


if os.environ.get("WFE_BENCH_HEARD"):
    plugin(on=["*"], workflows=["heard"])(note)
