"""What a run has cost: the sums of the metrics ``cost`` and ``tokens`` of its current stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Of one stage: no sum of them leaves what the columns hold.
MOST = 10**15


def totals_of(metrics: Mapping[str, float] | None) -> tuple[float, int]:
    """Return what a stage adds to the run's cost and tokens."""
    if not metrics:
        return 0.0, 0
    cost, tokens = (max(-MOST, min(MOST, metrics.get(name, 0))) for name in ("cost", "tokens"))
    return float(cost), round(tokens)


def sum_of(stages: Iterable[Mapping[str, float] | None]) -> tuple[float, int]:
    """Return cost and tokens of a run whose stages have these metrics."""
    parts = [totals_of(metrics) for metrics in stages]
    return sum((cost for cost, _ in parts), 0.0), sum(tokens for _, tokens in parts)
