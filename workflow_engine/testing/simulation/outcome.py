"""What became of a schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from .settings import Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """One schedule, which the same seed gives again.

    Attributes:
        violations: what was wrong; empty if nothing was.
        trace: who went on up to where, and each fault, as one line of text each.
        steps: turns that were taken.
        faults: number, kind and place of each fault that happened.
        counts: kind of fault -> how often.
        statuses: status -> how many runs ended so.
        settings: what the seed has drawn.
    """

    seed: int | str
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    steps: int
    seconds: float
    faults: tuple[tuple[int, str, str], ...]
    counts: Mapping[str, int]
    statuses: Mapping[str, int]
    settings: Settings

    @property
    def digest(self) -> str:
        """A digest of the trace: equal for equal schedules."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()
