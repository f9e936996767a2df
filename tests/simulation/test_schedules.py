"""Schedules with the engine as it is: nothing may be wrong, and everything must have been tried."""

from __future__ import annotations

import pytest

from workflow_engine.testing.simulation import shrink
from workflow_engine.testing.simulation.settings import KINDS

from .__main__ import regressions
from .many import play

pytestmark = [pytest.mark.one_database, pytest.mark.slow]
# As many as CI has time for; ``make simulate`` plays more.
SCHEDULES = 60


def test_no_schedule_breaks_a_promise() -> None:
    figures = play([*regressions(), *range(SCHEDULES)])

    assert not figures.violations, "\n".join(shrink(int(seed)).story for seed in list(figures.violations)[:1])
    assert all(figures.faults[kind] for kind in KINDS), figures.faults
    assert all(figures.runs[status] for status in ("COMPLETED", "FAILED", "CANCELLED")), figures.runs
