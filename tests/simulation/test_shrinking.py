"""What a failing schedule is made of is left out as long as it fails."""

from __future__ import annotations

import pytest

from workflow_engine.testing.simulation import PLANS, Settings, shrink, simulate

from .mutants import MUTANTS

pytestmark = pytest.mark.one_database
LINE = [plan for plan in PLANS if plan.id == "sim-line"]
SETTINGS = Settings(rates={"sink error before": 0.5}, fault_steps=400, runs=2, operations=0, workers=2)


def test_a_failing_schedule_becomes_smaller_and_still_fails() -> None:
    broken = [MUTANTS["failed-events-are-skipped"]]
    found = simulate(1, mutants=broken, settings=SETTINGS, plans=LINE)

    shrunk = shrink(1, mutants=broken, settings=SETTINGS, plans=LINE, most=6)

    assert found.violations
    assert shrunk.outcome.violations
    assert len(shrunk.outcome.faults) < len(found.faults)
    assert "wrong: books heard" in shrunk.story


def test_a_schedule_that_does_not_fail_cannot_be_shrunk() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink(1, settings=Settings(fault_steps=0, runs=1, operations=0, workers=1), plans=LINE)
