"""The closing words of a test run: one table row per backend, then the totals alone on the last line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.backends.search import Absent, Server
from tests.backends.suite import Outcome

Row = tuple[str, str, str, str, str, str]
HEAD: Row = ("Backend", "Passed", "Failed", "Skipped", "Seconds", "Server")


def table(found: Mapping[str, Server | Absent], outcomes: Mapping[str, Outcome]) -> str:
    """Return the rows in columns; a server on which no suite runs (Redis) has no counts."""
    rows = [HEAD, *(row(name, server, outcomes.get(name)) for name, server in found.items())]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEAD) - 1)]
    return "\n".join(aligned(cells, widths) for cells in rows)


def row(name: str, server: Server | Absent, outcome: Outcome | None) -> Row:
    where = f"absent: {server.reason}" if isinstance(server, Absent) else server.source
    if outcome is None:
        return (name, "-", "-", "-", "-", where)
    counts = (str(outcome.passed), str(outcome.failed), str(outcome.skipped))
    return (name, *counts, f"{outcome.seconds:.1f}", where)


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, where = cells
    columns = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
    return "  ".join([*columns, where])


def closing_lines(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return what each pytest said last, and the totals as the last line."""
    lines = [f"{name}: {outcome.words} in {outcome.seconds:.2f}s" for name, outcome in outcomes.items()]
    return [*lines, totals(outcomes.values())]


def totals(outcomes: Iterable[Outcome]) -> str:
    """Return ``12 passed, 0 failed, 3 skipped``; the skipped are left out when there are none."""
    listed = list(outcomes)
    passed, failed = sum(outcome.passed for outcome in listed), sum(outcome.failed for outcome in listed)
    skipped = sum(outcome.skipped for outcome in listed)
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
