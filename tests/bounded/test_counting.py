"""What the constant load says of its samples."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bounded.counting import Sample, grown, table


def samples(*ends: int, table: str = "WorkflowRun", minutes: int = 20) -> list[Sample]:
    """Return a sample per minute: as many rows as ``ends`` says, in as many equal parts."""
    part = minutes // len(ends)
    common: dict[str, Any] = {"bytes": {table: 3 * 2**20}, "blobs": 0, "blob_bytes": 0, "folders": 1}
    return [
        {"minute": float(minute), "rows": {table: ends[(minute - 1) // part]}, **common}
        for minute in range(1, minutes + 1)
    ]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((1000, 1000), []),
        ((1000, 1100), []),
        ((1000, 500), []),
        ((1000, 1101), ["WorkflowRun has grown from 1,000 to 1,101 rows."]),
        ((0, 51), ["WorkflowRun has grown from 0 to 51 rows."]),
        ((2, 50), []),
    ],
)
def test_a_table_that_grows_by_more_than_a_tenth_is_named(ends: tuple[int, int], said: list[str]) -> None:
    assert grown(samples(*ends), 10) == said


def test_too_short_a_load_says_nothing_good() -> None:
    assert grown(samples(1, 1, minutes=10), 10) == ["It did not last long enough."]
    assert table([], 10) == "It did not last long enough."


def test_the_table_compares_ends_and_means() -> None:
    lines = table(samples(100, 120), 10).splitlines()

    assert lines[2] == "| WorkflowRun | 100 | 120 | 1.200 | 100 | 120 | 1.200 |"
    assert lines[3] == "| WorkflowRun, MiB | 3 | 3 | 1.000 | 3 | 3 | 1.000 |"
