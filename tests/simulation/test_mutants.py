"""The test of the test: with the engine broken on purpose, schedules notice."""

from __future__ import annotations

import pytest

from workflow_engine.testing.simulation import simulate

from .mutants import MUTANTS

pytestmark = pytest.mark.one_database
# Those that a few schedules find; ``make simulate ARGS=--mutants`` tries them all.
QUICKLY_FOUND = {
    "no-reaper": "not ended",
    "no-sweeper": "not ended",
    "age-means-dead": "STUCK_RUN_REAPED",
    "no-new-token-when-started": "token went back",
    "crashes-in-company-count": "WORKER_LOST",
    "leases-are-ignored": "live lease stolen",
}
SEEDS = range(5)


@pytest.mark.parametrize(("name", "said"), QUICKLY_FOUND.items())
def test_a_mutant_is_found(name: str, said: str) -> None:
    found = next((text for seed in SEEDS for text in simulate(seed, mutants=[MUTANTS[name]]).violations), "")

    assert said in found
