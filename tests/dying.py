"""Deaths inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from workflow_engine.kernel import points


def die_at(point: str, act: Callable[[], object]) -> None:
    """Let ``act`` die the first time it passes a crash point. Raises if it does not pass it."""
    before = points.install(points.hook_from(f"{point}:1:raise"))
    try:
        with pytest.raises(points.Crash):
            act()
    finally:
        points.install(before)
