"""The faults of a schedule: whether one happens is drawn anew at each opportunity; what happened is written down."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from .settings import Settings


class Faults:
    """Decides and counts. ``tell`` is told of each fault: its number, kind and place."""

    def __init__(self, chance: random.Random, settings: Settings, tell: Callable[[int, str, str], None]) -> None:
        self._chance, self._settings, self._tell = chance, settings, tell
        self.are_on = True
        self.counts: Counter[str] = Counter()
        self.listed: list[tuple[int, str, str]] = []
        self._drawn = 0

    def strikes(self, kind: str, who: str, where: str = "", *, unless: Callable[[], bool] | None = None) -> bool:
        """Whether a fault of this kind happens here and now; never if ``unless`` says so."""
        if not self.are_on:
            return False
        rate = self._settings.rates.get(kind, 0.0)
        if not rate or self._chance.random() >= rate or (unless is not None and unless()):
            return False
        self._drawn += 1
        if self._drawn in self._settings.without:
            return False
        self.counts[kind] += 1
        self.listed.append((self._drawn, kind, f"{who} {where}".strip()))
        self._tell(*self.listed[-1])
        return True

    def amount(self, least: float, most: float) -> float:
        return self._chance.uniform(least, most)

    def pick(self, count: int) -> int:
        return self._chance.randrange(count)
