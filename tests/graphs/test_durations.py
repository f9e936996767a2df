from __future__ import annotations

from datetime import timedelta

import pytest

from workflow_engine.graphs.durations import spell


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.0204, "20 ms"),
        (0.9999, "1 s"),
        (1.5, "1.5 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3_600, "1 h"),
        (5_430, "1 h 30 min"),
        (86_400 + 59, "1 d"),
        (97_200, "1 d 3 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert spell(timedelta(seconds=seconds)) == words
