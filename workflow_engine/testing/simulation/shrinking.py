"""Making a failing schedule small, so that it can be read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .outcome import Outcome
from .plans import PLANS, Plan
from .settings import Settings, draw_settings
from .simulating import Mutant, simulate

# Lines of the end of the trace that a story tells.
LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest schedule that was found to fail still, and after how many tries."""

    outcome: Outcome
    tries: int

    @property
    def settings(self) -> Settings:
        return self.outcome.settings

    @property
    def story(self) -> str:
        """What happened, in words."""
        one = self.outcome
        lines = [f"seed {one.seed}: {one.settings}"]
        lines += [f"  wrong: {text}" for text in one.violations]
        lines += [f"  fault {number}: {kind} ({where})" for number, kind, where in one.faults]
        lines += [f"  {line}" for line in one.trace[-LAST_LINES:]]
        return "\n".join(lines)


def shrink(
    seed: int | str,
    *,
    mutants: Sequence[Mutant] = (),
    settings: Settings | None = None,
    plans: Sequence[Plan] = PLANS,
    most: int = 200,
) -> Shrunk:
    """Leave out of a failing schedule what it fails without: operations, runs, hosts, time for faults, single faults.

    Args:
        most: schedules that are tried.

    Raises:
        ValueError: it does not fail.
    """
    settings = settings or draw_settings(random.Random(f"{seed}/settings"))  # noqa: S311 - not a secret
    best = simulate(seed, mutants=mutants, settings=settings, plans=plans)
    if not best.violations:
        raise ValueError(f"the schedule of seed {seed!r} does not fail")
    tries, progress = 1, True
    while progress and tries < most:
        progress = False
        for smaller in _smaller(best):
            if tries >= most:
                break
            tries += 1
            found = simulate(seed, mutants=mutants, settings=smaller, plans=plans)
            if found.violations:
                best, progress = found, True
                break
    return Shrunk(best, tries)


def _smaller(outcome: Outcome) -> Iterator[Settings]:
    now = outcome.settings
    fields: tuple[tuple[str, int, Callable[[int], int]], ...] = (
        ("fault_steps", 0, lambda value: value // 2),
        ("operations", 0, lambda value: value // 2),
        ("runs", 1, lambda value: value - 1),
        ("workers", 1, lambda value: value - 1),
        ("slots", 1, lambda value: 1),
        ("flushers", 1, lambda value: 1),
        ("orchestrators", 1, lambda value: 1),
        ("sinks", 1, lambda value: 1),
    )
    for name, least, less in fields:
        value = getattr(now, name)
        if value > least:
            changes: dict[str, Any] = {name: max(least, less(value))}
            yield replace(now, **changes)
    if now.skew:
        yield replace(now, skew=False)
    for kind in {kind: None for _, kind, _ in outcome.faults}:
        yield replace(now, rates={**now.rates, kind: 0.0})
    for number, _, _ in outcome.faults:
        yield replace(now, without=now.without | {number})
