"""All mutants: those that show alone, and those that show only together with what else prevents the same."""

from __future__ import annotations

from . import fences, outbox, steps
from .breaking import MUTANTS, Mutant

__all__ = ["ALONE", "MUTANTS", "TOGETHER", "fences", "outbox", "steps"]
ALONE: list[tuple[Mutant, ...]] = [(one,) for one in MUTANTS.values() if not one.covers and not one.hidden]
# Where one fence hides that another one is missing, only all of them together show.
_TOGETHER = [(one, *(MUTANTS[name] for name in one.covers)) for one in MUTANTS.values() if one.covers]
TOGETHER: list[tuple[Mutant, ...]] = list({frozenset(names): names for names in _TOGETHER}.values())
