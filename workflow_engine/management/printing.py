"""Values as people read them in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from workflow_engine.graphs.words import cut, one_line, pad, width_of
from workflow_engine.models import WorkflowArtifact

LONGEST_VALUE = 2_000
LONGEST_ERROR = 300
MOST_FILES = 20
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def moment(at: datetime | None) -> str:
    """Return date and time in the project's time zone."""
    return f"{_local(at):%Y-%m-%d %H:%M:%S}" if at else "-"


def clock(at: datetime) -> str:
    """Return the time of the day in the project's time zone."""
    return f"{_local(at):%H:%M:%S}"


def _local(at: datetime) -> datetime:
    return timezone.localtime(at) if timezone.is_aware(at) else at


def size(count: int) -> str:
    """Return a number of bytes: ``512 B``, ``1.5 KiB``."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def value(data: Any) -> str:
    """Return JSON of at most 2,000 characters, saying how much was left out."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    left_out = len(text) - LONGEST_VALUE
    return text if left_out <= 0 else f"{text[:LONGEST_VALUE]}\n… {left_out:,} more characters"


def error_line(error: Mapping[str, Any] | None) -> str:
    """Return the error of a run or stage on one line; empty if there is none."""
    if not error:
        return ""
    kind = error.get("class") or error.get("code") or "error"
    return cut(one_line(f"{kind}: {error.get('message', '')}"), LONGEST_ERROR)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of aligned columns."""
    lines = [header, *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(header))]
    return ["  ".join(pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def file_lines(files: Sequence[WorkflowArtifact]) -> Iterator[str]:
    """Yield a table of the first files, and how many more there are: each item of a map may have its own."""
    rows = [(file.name, size(file.size), file.key) for file in files[:MOST_FILES]]
    yield from table(("name", "size", "key"), rows)
    if len(files) > MOST_FILES:
        yield f"and {len(files) - MOST_FILES:,} more: --json lists all"


def facts(pairs: Mapping[str, str]) -> list[str]:
    """Return one line per fact that there is, the values below each other."""
    width = max(map(len, pairs))
    return [f"{name:<{width}}  {content}" for name, content in pairs.items() if content]
