"""Measured values by name, and the arithmetic of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

Values = dict[str, list[float]]


class Figures:
    """Values by name, such as ``ours/2/chain5/runs_per_s``, one per round, or one per run for latencies."""

    def __init__(self, values: Mapping[str, Iterable[float]] | None = None) -> None:
        self.values: Values = {name: list(items) for name, items in (values or {}).items()}

    def add(self, name: str, *values: float) -> None:
        self.values.setdefault(name, []).extend(values)

    def median(self, name: str) -> float | None:
        """Return the middle value, or None if nothing was measured."""
        values = self.values.get(name)
        return median(values) if values else None

    def spread(self, name: str) -> tuple[float, float] | None:
        """Return the lowest and the highest value."""
        values = self.values.get(name)
        return (min(values), max(values)) if values else None

    def percentile(self, name: str, share: float) -> float | None:
        """Return the value that ``share`` (0 to 1) of the values do not exceed: a value that was measured."""
        values = sorted(self.values.get(name, []))
        if not values:
            return None
        # Rounded, because 0.99 * 100 is a little more than 99.
        rank = -int(-round(share * len(values), 6) // 1)
        return values[max(rank, 1) - 1]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return median, lowest, highest and number of all values, for the JSON file."""
        return {
            name: {
                "median": median(values),
                "low": min(values),
                "high": max(values),
                "p99": self.percentile(name, 0.99) or 0.0,
                "n": len(values),
            }
            for name, values in sorted(self.values.items())
            if values
        }


def ratio(above: float | None, below: float | None) -> float | None:
    """Return above / below, or None if one of them was not measured or below is zero."""
    return above / below if above is not None and below else None


def best(*values: float | None) -> float | None:
    """Return the largest of what was measured."""
    return max((value for value in values if value is not None), default=None)
