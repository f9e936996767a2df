"""What is to be said of a stage in a drawing, in a few words each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from workflow_engine.definitions import Retry, Stage, Wait
from workflow_engine.definitions.items import ItemMap
from workflow_engine.definitions.stages import DEFAULT_QUEUE

from .durations import spell
from .words import one_line

SHOWN_WAITS = 2


def facts_of(stage: Stage[Any, Any, Any], mapped: ItemMap | None = None) -> list[str]:
    """Return its map, retry and timeout, then queue, dependencies, condition and waits, as far as there are any."""
    facts = [] if mapped is None else _map(mapped)
    facts += [_retry(stage.retry), f"timeout {spell(stage.timeout)}" if stage.timeout else "no timeout"]
    if stage.queue != DEFAULT_QUEUE:
        facts.append(f"queue {one_line(stage.queue)}")
    if stage.dependencies:
        facts.append(f"needs {', '.join(stage.dependencies)}")
    if stage.when is not None:
        facts.append(f"only if {one_line(str(stage.when))}")
    facts += [f"waits for {_answer(wait)}" for wait in stage.waits]
    if stage.check is not None:
        facts.append("waits until a check finds it complete")
    return facts


def _map(mapped: ItemMap) -> list[str]:
    many = "× items" if mapped.max_parallel is None else f"× items, {mapped.max_parallel:,} at a time"
    failed = {
        "fail": "a failed item fails it",
        "collect": "failed items are collected",
        "skip": "failed items are skipped",
    }
    facts = [many, failed[mapped.on_item_error]]
    if isinstance(mapped.min_success, float):
        facts.append(f"{mapped.min_success * 100:g}% must succeed")
    elif mapped.min_success is not None:
        facts.append(f"{mapped.min_success:,} must succeed")
    return facts


def _answer(wait: Wait[Any]) -> str:
    if wait.max_wait is None:
        return f"the answer {wait.name}"
    return f"the answer {wait.name}, {spell(wait.max_wait)}{', then by default' if wait.has_default else ''}"


def _retry(retry: Retry) -> str:
    if retry.max_attempts == 1:
        return "no retry"
    count = min(retry.max_attempts - 1, SHOWN_WAITS)
    waits = [spell(_wait(retry, number)) for number in range(count)]
    if retry.max_attempts - 1 > SHOWN_WAITS:
        waits.append("…")
    return f"{retry.max_attempts} attempts (waits {', '.join(waits)})"


def _wait(retry: Retry, number: int) -> timedelta:
    """Return the wait after failure ``number`` (from 0), without its jitter."""
    seconds = retry.initial.total_seconds() * retry.factor**number
    return timedelta(seconds=min(seconds, retry.maximum.total_seconds()))
