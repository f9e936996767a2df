"""Reading a delivery: which rows are right, and what is said of those that are not."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from example_project.bookshop.delivery import SAMPLE, BadRow, entry_of, row_at, rows_of
from example_project.bookshop.schemas import Entry, Row

from .deliveries import GOOD, IMPORTED, MENDED, REJECTED, delivery_of, mend, sample_in


def test_the_sample_holds_books_of_six_languages_and_a_few_rows_that_are_wrong() -> None:
    rows = list(rows_of(str(SAMPLE)))

    wrong = [row for row in rows if ",".join(row.cells) in MENDED]
    entries = [entry_of(row) for row in rows if row not in wrong]
    assert (len(entries), len(wrong)) == (IMPORTED, REJECTED)
    assert len(Counter(entry.language for entry in entries)) == 6
    assert len({(entry.title, entry.author) for entry in entries}) == IMPORTED


def test_the_sample_can_be_mended(tmp_path: Path) -> None:
    file = sample_in(tmp_path)

    mend(file)

    assert len([entry_of(row) for row in rows_of(str(file))]) == IMPORTED + REJECTED


def test_a_row_becomes_an_entry_of_typed_values() -> None:
    row = Row(line=2, cells=["Ulysses", " James Joyce ", "1922", "English", "18.5", "2"])

    assert entry_of(row) == Entry(
        title="Ulysses", author="James Joyce", year=1922, language="English", price=Decimal("18.5"), copies=2
    )


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([""] * 6, "title is '', not a title of up to 200 letters; author is '', not a name"),
        (["Ulysses", "Joyce", "1922", "English", "NaN", "2"], "price is 'NaN', not a price such as 9.90"),
        (["Ulysses", "Joyce", "1922", "English", "1e9", "2"], "price is '1e9', not a price such as 9.90"),
        (["Ulysses", "Joyce", "1922", "English", "-1", "2"], "price is '-1', not a price such as 9.90"),
        (["Ulysses", "Joyce", "1922", "English", "9", "-2"], "copies is '-2', not a number such as 3"),
        (["Ulysses", "Joyce", "MCMXXII", "English", "9", "2"], "year is 'MCMXXII', not a year such as 1897"),
        (["Ulysses", "Joyce", "1922", "../etc", "9", "2"], "language is '../etc', not a language such as German"),
        (["Ulysses", "Joyce", "1922"], "Line 7 has 3 cells instead of 6"),
    ],
)
def test_a_wrong_row_is_told_its_line_its_value_and_what_would_be_right(cells: list[str], text: str) -> None:
    with pytest.raises(BadRow, match=r"^Line 7") as caught:
        entry_of(Row(line=7, cells=cells))

    assert text in str(caught.value)


def test_a_row_is_found_again_by_the_line_where_it_ends(tmp_path: Path) -> None:
    file = delivery_of(tmp_path, '"Two\nlines",Somebody,1900,English,1,1', "", GOOD)

    assert [(row.line, row.cells[0]) for row in rows_of(str(file))] == [(3, "Two\nlines"), (5, "Ulysses")]
    assert row_at(str(file), 5).cells[0] == "Ulysses"
    with pytest.raises(BadRow, match=r"Line 4 is no longer in '.*small\.csv'"):
        row_at(str(file), 4)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    file = delivery_of(tmp_path, GOOD)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    assert [row.cells[0] for row in rows_of(str(file))] == ["Ulysses"]
