"""What the nemesis will do and when: drawn from a seed, so that the same seed gives the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

# Act -> how often it is drawn, beside the others. The first part of its name is its group.
MENU = {
    "kill-worker": 45,
    "kill-group": 10,
    "kill-supervisor": 3,
    "kill-orchestrator": 10,
    "kill-client": 3,
    "stop-worker": 6,
    "stop-orchestrator": 2,
    "deploy-worker": 4,
    "deploy-orchestrator": 2,
    "redis-flush": 4,
    "redis-empty": 4,
    "redis-aof": 2,
    "redis-away": 1,
    "redis-pause": 3,
    "redis-drop": 3,
    "redis-double": 5,
    "redis-hold": 4,
    "pg-restart": 4,
    "pg-terminate": 6,
}
GROUPS = tuple(dict.fromkeys(name.partition("-")[0] for name in MENU))


@dataclass(frozen=True)
class Act:
    """One fault. ``pick`` and ``size`` lie between 0 and 1: whom of those who are there, and how long or how much."""

    number: int
    # Seconds from the beginning.
    at: float
    kind: str
    pick: float
    size: float


def chosen(words: Sequence[str]) -> tuple[str, ...]:
    """Return the acts that are named, by their own name or their group's. Raises ``ValueError`` for an unknown one."""
    unknown = [word for word in words if word not in MENU and word not in GROUPS]
    if unknown:
        raise ValueError(f"no act and no group of acts: {', '.join(unknown)}. Groups: {', '.join(GROUPS)}.")
    return tuple(name for name in MENU if not words or name in words or name.partition("-")[0] in words)


def plan(seed: int, every: float, kinds: Sequence[str]) -> Iterator[Act]:
    """Yield acts, about one each ``every`` seconds: first each kind once, then by their weights, without an end."""
    if not kinds:
        return
    random, at, number = Random(seed), 0.0, 0
    weights = [MENU[kind] for kind in kinds]
    first = random.sample(kinds, len(kinds))
    while True:
        number += 1
        at += every * random.uniform(0.5, 1.5)
        kind = first.pop() if first else random.choices(kinds, weights)[0]
        yield Act(number, at, kind, random.random(), random.random())
