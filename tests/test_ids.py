from __future__ import annotations

import time
import uuid

import pytest

from workflow_engine import ids


def test_ids_are_uuid7_of_the_present_and_strictly_increase() -> None:
    made = [ids.uuid7() for _ in range(10_000)]

    assert made == sorted(set(made))
    assert {(item.version, item.variant) for item in made} == {(7, uuid.RFC_4122)}
    assert abs((made[0].int >> 80) - time.time() * 1000) < 10_000


def test_ids_increase_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)

    assert ids.uuid7() > before
