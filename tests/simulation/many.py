"""Many schedules, in one or more processes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from workflow_engine.testing.simulation import Outcome, simulate

from .setting_up import set_up

CHUNK = 10
SELDOM = (100_000, 20, 100)


@dataclass(slots=True)
class Figures:
    """What came of some schedules, added up."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    runs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    # Seed -> what was wrong.
    violations: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        self.runs.update(outcome.statuses)
        self.faults.update(outcome.counts)
        if outcome.violations:
            self.violations[str(outcome.seed)] = outcome.violations

    def merge(self, other: Figures) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds += other.seconds
        self.runs.update(other.runs)
        self.faults.update(other.faults)
        self.violations |= other.violations


def play(seeds: Iterable[int | str]) -> Figures:
    """Play schedules in this process."""
    figures = Figures()
    # What is thrown away after a schedule is counted by references mostly; looking for cycles all the time costs a lot.
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        for seed in seeds:
            figures.add(simulate(seed))
    finally:
        gc.set_threshold(*before)
    return figures


def play_in(jobs: int, first: int, count: int) -> Iterator[Figures]:
    """Play schedules in processes, and yield the figures of a few whenever they are done."""
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    if jobs <= 1:
        yield from map(play, chunks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=set_up) as pool:
        yield from pool.map(play, chunks)
