"""A subscriber that hears of all events, in the processes that deliver."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from django.conf import settings

from workflow_engine import RunEvent, plugin


def directory() -> Path:
    return Path(settings.SCRATCH) / "heard"


# What a killed process had claimed for it is free after twice this time and a little.
@plugin(on=["*"], name="soak-hears", timeout=5)
def hear(event: RunEvent) -> None:
    line = json.dumps([time.time(), str(event.run_id), event.sequence]) + "\n"
    with (directory() / f"{os.getpid()}.jsonl").open("ab", buffering=0) as file:
        file.write(line.encode())


def heard() -> list[tuple[float, str, int]]:
    """Return when the plugin was called for which event, the first first."""
    lines = [line for path in directory().glob("*.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return sorted(tuple(json.loads(line)) for line in lines if line.endswith("\n"))
