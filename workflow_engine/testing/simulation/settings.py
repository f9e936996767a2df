"""How bad the world of a schedule is: each seed draws its own, so that schedules differ in kind."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

# Seconds of virtual time.
LEASE_SECONDS, BEAT_SECONDS, TICK_SECONDS = 30.0, 14.0, 30.0
KINDS = (
    "crash",
    "crash in transaction",
    "crash after commit",
    "stall",
    "beats lost",
    "slow body",
    "slow check",
    "late result",
    "late delivery",
    "message lost",
    "message doubled",
    "message late",
    "queue emptied",
    "conflict",
    "answer of commit lost",
    "body error",
    "check error",
    "sink error before",
    "sink error after",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a schedule is made of.

    Attributes:
        rates: kind of fault -> how likely it is wherever it may happen.
        fault_steps: turns in which faults happen; after them every run must end within ``calm_steps``.
        without: numbers of faults of this seed that are left out (``Outcome.faults`` has them).
        runs, operations: how many are made, at most; of each the first ones are kept.
    """

    rates: dict[str, float] = field(default_factory=dict)
    fault_steps: int = 300
    calm_steps: int = 2_400
    runs: int = 3
    operations: int = 3
    workers: int = 2
    slots: int = 1
    orchestrators: int = 2
    flushers: int = 2
    sinks: int = 1
    skew: bool = False
    large: bool = False
    without: frozenset[int] = frozenset()


def draw_settings(chance: random.Random) -> Settings:
    """Return the settings that a seed stands for."""
    pick = chance.choice
    crash = pick([0, 0.005, 0.01, 0.03])
    lossy, noisy = pick([0, 0.05, 0.3]), pick([0, 0.02, 0.1])
    rates = {
        "crash": crash,
        "crash in transaction": crash / 2,
        "crash after commit": crash,
        "stall": pick([0, 0.003, 0.01]),
        "beats lost": pick([0, 0.1, 0.4]),
        "slow body": pick([0, 0.3, 0.6]),
        "slow check": pick([0, 0.3, 0.6]),
        "late result": pick([0, 0.1, 0.4]),
        "late delivery": pick([0, 0.02, 0.1]),
        "message lost": lossy,
        "message doubled": pick([0, 0.05, 0.3]),
        "message late": pick([0, 0.05, 0.3]),
        "queue emptied": pick([0, 0.005, 0.02]),
        "conflict": noisy / 2,
        "answer of commit lost": noisy / 2,
        "body error": pick([0, 0.1, 0.3]),
        "check error": pick([0, 0.2, 0.5]),
        "sink error before": pick([0, 0.1, 0.3]),
        "sink error after": pick([0, 0, 0.1]),
    }
    return Settings(
        rates=rates,
        fault_steps=pick([100, 200, 400]),
        runs=pick([1, 1, 2, 3]),
        sinks=pick([1, 1, 2]),
        operations=pick([0, 2, 4]),
        workers=pick([2, 2, 3]),
        slots=pick([1, 1, 3]),
        skew=pick([False, True]),
        large=pick([False, True]),
    )
