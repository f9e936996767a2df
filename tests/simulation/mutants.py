"""All mutants, and those pairs that take two fences away."""

from __future__ import annotations

from itertools import combinations

from . import fences, outbox, steps
from .breaking import MUTANTS, Mutant

__all__ = ["MUTANTS", "PAIRS", "fences", "outbox", "steps"]
# Where one fence hides that another one is missing, only both together show.
PAIRS: list[tuple[Mutant, Mutant]] = [
    (MUTANTS["cancel-reads-first"], MUTANTS["no-status-of-the-run"]),
    *combinations([one for one in MUTANTS.values() if one.is_fence], 2),
]
