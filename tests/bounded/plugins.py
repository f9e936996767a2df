"""Subscribers of the constant load."""

from __future__ import annotations

from workflow_engine import RunEvent, plugin


@plugin(on=["*"], name="hears-all")
def hear(event: RunEvent) -> None:
    return


@plugin(on=["run.failed"], name="refuses-some")
def refuse(event: RunEvent) -> None:
    """Leave dead letters: of one failed run in four."""
    if event.run_id.int % 4 == 0:
        raise ConnectionError("on purpose")
