"""What all steps share: the world, the run that the last one was about, and what was seen."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from workflow_engine.definitions.results import StageError
from workflow_engine.models.payloads import inline

from .model import Run
from .world import World

One = TypeVar("One")
MOST_RUNS = 4
OUTPUT = inline({"value": 1})
SHORT, INTERVAL = timedelta(0), timedelta(seconds=5)
ERROR = StageError("STAGE_FAILED", "Broken", "no")
HOW = st.sampled_from(["ok", "ok", "ok", "ok", "retry", "final", "timer", "hard", "soft", "poll", "child"])
JANITORS = ["reap", "reap_stuck", "expire", "wake", "wake", "notices", "notices", "fire"]
SECONDS = [0, 1, 5, 5, 41, 41, 300, 7 * 3600]
WORK = [("workflow", "order"), ("workflow", "quick"), ("queue", "default"), ("queue", "slow")]
KEY = st.sampled_from([None, "k"])
# Which of those there are: the shrinker likes small numbers.
ANY = st.integers(0, 9)
FEW = st.integers(0, 3)


def pick(found: Sequence[One], number: int) -> One:
    return found[number % len(found)]


def has_runs(steps: Steps) -> bool:
    return bool(steps.world.runs)


def has_hands(steps: Steps) -> bool:
    return bool(steps.world.hands)


class Steps(RuleBasedStateMachine):
    """A world, to take steps in."""

    # How often what must not be missing from all this has happened.
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.touched: Run | None = None

    @property
    def now(self) -> Any:
        return self.world.clock.now()

    def run_of(self, number: int) -> tuple[uuid.UUID, Run]:
        self.touched = pick(list(self.world.runs.values()), number)
        return self.world.id_of(self.touched), self.touched

    def is_over(self, when: Any) -> bool:
        return when is not None and when <= self.now

    def refuses(self, command: Any, errors: Any) -> None:
        try:
            self.world.dispatch(command)
        except errors:
            return
        raise AssertionError(f"{command} was not refused")
