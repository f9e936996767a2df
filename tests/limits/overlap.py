"""How many runs of a limit were under way at the same time, as the rows say afterwards."""

from __future__ import annotations

from collections import defaultdict

from workflow_engine.models import RunPlace


def most_at_once() -> dict[str, int]:
    """Return the largest number per key, of runs that have ended: from when each got its place to its end."""
    changes = defaultdict(list)
    for place in RunPlace.objects.select_related("run"):
        assert place.given_at is not None
        assert place.run.finished_at is not None
        assert place.given_at <= place.run.started_at <= place.run.finished_at
        # At the same instant an end comes first.
        changes[place.key] += [(place.given_at, 1), (place.run.finished_at, -1)]
    found = {}
    for key, moments in changes.items():
        now = most = 0
        for _, change in sorted(moments):
            now += change
            most = max(most, now)
        found[key] = most
    return found
