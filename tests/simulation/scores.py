"""The test of the test: which mutants schedules find, and how soon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from workflow_engine.testing.simulation import simulate

from .breaking import Mutant
from .setting_up import set_up

# So often a mutant is found, then the next one has its turn.
ENOUGH = 1


@dataclass(frozen=True, slots=True)
class Score:
    name: str
    first: int | None
    found: int
    played: int
    seen_as: str


def score(mutants: Sequence[Mutant], seeds: Iterable[int], enough: int = ENOUGH) -> Score:
    """Play schedules with the engine broken until it was found a few times."""
    first, found, played, seen_as = None, 0, 0, ""
    for seed in seeds:
        played += 1
        outcome = simulate(seed, mutants=mutants)
        if outcome.violations:
            found += 1
            if first is None:
                first, seen_as = seed, outcome.violations[0]
            if found >= enough:
                break
    name = " + ".join(one.name for one in mutants)
    return Score(name, first, found, played, seen_as)


def score_in(jobs: int, wanted: Sequence[Sequence[str]], seeds: Sequence[int]) -> Iterator[Score]:
    """Score mutants by their names, some of them at a time in processes of their own."""
    if jobs <= 1:
        yield from (_named(names, seeds) for names in wanted)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=set_up) as pool:
        yield from pool.map(_named, wanted, [seeds] * len(wanted))


def _named(names: Sequence[str], seeds: Iterable[int]) -> Score:
    from .mutants import MUTANTS

    return score([MUTANTS[name] for name in names], seeds)


def table(scores: Iterable[Score]) -> str:
    """Return a Markdown table."""
    lines = ["| mutant | first seed | found | seen as |", "|---|---|---|---|"]
    for one in scores:
        first = "not found" if one.first is None else str(one.first)
        seen = one.seen_as.replace("|", "/")[:90]
        lines.append(f"| `{one.name}` | {first} | {one.found} of {one.played} | {seen} |")
    return "\n".join(lines)
