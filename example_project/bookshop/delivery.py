"""Read what the wholesaler sends: a CSV file in UTF-8, a line per book, below one with the names of the columns."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from workflow_engine import NonRetryableError

from .schemas import Entry, Row

SAMPLE = Path(__file__).parent / "samples" / "delivery.csv"
"""160 books in six languages; five rows are wrong on purpose."""
COLUMNS = list(Entry.model_fields)


class UnusableDelivery(NonRetryableError):
    """The file as a whole cannot be read as a delivery. The text names it, why, and what would be right."""

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"Cannot import {path!r}: {why}. It should be a CSV file in UTF-8 whose first line is {','.join(COLUMNS)}"
        )


class BadRow(NonRetryableError):
    """One row is wrong. The text gives its line and every cell that is wrong."""


def rows_of(path: str) -> Iterator[Row]:
    """Yield the rows of a file, whether their cells are right or wrong.

    Raises:
        UnusableDelivery: there is no such file, it may not be read, or it is no delivery.
        OSError: the disk failed; another attempt may succeed.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != COLUMNS:
                raise UnusableDelivery(path, f"its first line is {','.join(header)[:100]!r}")
            yield from (Row(line=reader.line_num, cells=cells) for cells in reader if cells)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UnusableDelivery(path, f"it cannot be opened, {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnusableDelivery(path, "it is no text in UTF-8") from error
    except csv.Error as error:
        raise UnusableDelivery(path, f"line {reader.line_num} is no CSV, {error}") from error


def row_at(path: str, line: int) -> Row:
    """Return the row at a line of the file. Raises what ``rows_of`` raises, and ``BadRow`` if there is none."""
    for row in rows_of(path):
        if row.line == line:
            return row
    raise BadRow(f"Line {line} is no longer in {path!r}")


def entry_of(row: Row) -> Entry:
    """Return what the row says. Raises ``BadRow``."""
    if len(row.cells) != len(COLUMNS):
        raise BadRow(
            f"Line {row.line} has {len(row.cells)} cells instead of {len(COLUMNS)}; "
            "a comma inside a cell needs quotation marks around the cell"
        )
    given = dict(zip(COLUMNS, row.cells, strict=True))
    try:
        return Entry.model_validate({name: text.strip() for name, text in given.items()})
    except ValidationError as error:
        wrong = dict.fromkeys(str(one["loc"][0]) for one in error.errors())
        reasons = (f"{name} is {given[name][:100]!r}, not {Entry.model_fields[name].description}" for name in wrong)
        raise BadRow(f"Line {row.line}: {'; '.join(reasons)}") from error


def rejected_csv(rejected: Iterable[tuple[str, Row]]) -> str:
    """Return a CSV file of (problem, row): the problem, then the cells as they came."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["problem", *COLUMNS], *([problem, *row.cells] for problem, row in rejected)])
    return file.getvalue()
