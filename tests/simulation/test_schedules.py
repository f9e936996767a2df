"""Schedules with the engine as it is: nothing may be wrong, and everything must have been tried."""

from __future__ import annotations

from functools import cache

import pytest

from workflow_engine.testing.simulation import shrink
from workflow_engine.testing.simulation.settings import KINDS

from .__main__ import regressions
from .many import Figures, play

pytestmark = [pytest.mark.one_database, pytest.mark.slow]
# As many as CI has time for; ``make simulate`` plays more.
PART = 100
PARTS = range(0, 2_000, PART)


@cache
def played(first: int) -> Figures:
    return play(range(first, first + PART))


def say(figures: Figures) -> str:
    return "\n".join(shrink(int(seed)).story for seed in list(figures.violations)[:1])


def test_no_schedule_that_was_wrong_once_is_wrong_again() -> None:
    figures = play(regressions())

    assert not figures.violations, say(figures)


@pytest.mark.parametrize("first", PARTS)
def test_no_schedule_breaks_a_promise(first: int) -> None:
    figures = played(first)

    assert not figures.violations, say(figures)


def test_everything_that_can_happen_in_a_schedule_has_happened() -> None:
    figures = Figures()
    # Few enough to be played in one test, if this is the only one.
    for first in PARTS[:3]:
        figures.merge(played(first))

    assert all(figures.faults[kind] for kind in KINDS), figures.faults
    assert all(figures.runs[status] for status in ("COMPLETED", "FAILED", "CANCELLED")), figures.runs
