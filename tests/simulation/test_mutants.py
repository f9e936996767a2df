"""The test of the test: with the engine broken on purpose, schedules notice."""

from __future__ import annotations

import pytest

from workflow_engine.testing.simulation import simulate

from .mutants import ALONE, MUTANTS, TOGETHER

pytestmark = pytest.mark.one_database
# Those that a few schedules find; ``make simulate ARGS=--mutants`` tries them all.
QUICKLY_FOUND = {
    "no-new-token-when-started": "token went back",
    "no-new-token-when-checked": "UNIQUE constraint failed: workflow_engine_stageattempt",
    "leases-are-ignored": "live lease stolen",
    "one-clock-each": "time.disordered",
    "no-token-of-the-cursor": "cursor went back",
    "delivered-when-claimed": "cursor went back",
    "failed-events-are-skipped": "heard",
    "limits-are-ignored": "place.kept",
    "no-reaper": "not ended",
    "no-sweeper": "not ended",
    "age-means-dead": "STUCK_RUN_REAPED",
    "key-after-commit": "two runs for one key",
    "no-crash-budget": "not ended",
    "crashes-in-company-count": "WORKER_LOST",
    "cancel-forgets-stages": "generation.open_but_old",
    "shared-blob-key": "blob.shared",
    "rerun-deletes-by-prefix": "The blob store has nothing",
    "rerun-supersedes-nothing": "generation.two_count",
    "events-after-commit": "heard",
    "no-retry-budget": "not ended",
    "no-notices": "not told",
    "siblings-are-not-waited-for": "MISSING_INPUT",
    "no-token-in-completion+attempts-are-not-unique": "finished by another",
    "no-status-in-completion+attempts-are-not-unique": "events.after_end",
    "cancel-reads-first+no-status-of-the-run": "from COMPLETED to CANCELLED",
}
SEEDS = 20
# Where the first of these does not find it.
FROM = {"no-token-in-completion+attempts-are-not-unique": 40, "cancel-reads-first+no-status-of-the-run": 110}


@pytest.mark.parametrize(("names", "said"), QUICKLY_FOUND.items())
def test_a_mutant_is_found(names: str, said: str) -> None:
    mutants = [MUTANTS[name] for name in names.split("+")]
    first = FROM.get(names, 0)
    outcomes = (simulate(seed, mutants=mutants) for seed in range(first, first + SEEDS))

    assert any(said in text for outcome in outcomes for text in outcome.violations)


def test_every_mutant_is_either_seen_alone_or_says_what_hides_it() -> None:
    tried = {one.name for mutants in (*ALONE, *TOGETHER) for one in mutants}

    assert tried | {one.name for one in MUTANTS.values() if one.hidden} == set(MUTANTS)
    assert len(ALONE) >= 25
