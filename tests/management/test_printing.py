from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from workflow_engine.management.printing import error_line, facts, moment, size, table, value


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (2**52, "4096.0 TiB")]
)
def test_sizes_have_the_unit_that_fits(count: int, words: str) -> None:
    assert size(count) == words


def test_times_are_told_in_the_projects_zone(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"

    assert moment(datetime(2030, 1, 1, 20, 0, tzinfo=UTC)) == "2030-01-02 05:00:00"
    assert moment(None) == "-"


def test_columns_are_aligned_also_with_wide_letters_and_several_lines() -> None:
    assert table(("name", "n"), [("注文", "1"), ("a\nb", "2")]) == ["name  n", "注文  1", "a b   2"]


def test_facts_that_are_empty_are_left_out() -> None:
    assert facts({"a": "1", "long": "", "b": "2"}) == ["a     1", "b     2"]


def test_an_error_takes_one_line_and_not_a_long_one() -> None:
    assert error_line(None) == ""
    assert error_line({"code": "WORKER_LOST", "class": "", "message": "a\nb"}) == "WORKER_LOST: a b"
    assert len(error_line({"class": "E", "message": "x" * 1000})) == 300


def test_a_long_value_is_cut_and_says_by_how_much() -> None:
    assert value({"a": 1}) == '{\n  "a": 1\n}'
    assert value("x" * 1998) == f'"{"x" * 1998}"'
    assert value("x" * 2000).endswith("\n… 2 more characters")
