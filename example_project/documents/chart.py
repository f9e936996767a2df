"""Lay out the chart of the report: how many documents are how hard to read, a bar per level, a colour per language."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .readability import LEVEL_NAMES

if TYPE_CHECKING:
    from .report import Row

COLOURS = 5
"""Languages with a colour of their own; all others share the last one."""
LEFT, WIDTH, ROW, BAR = 112, 560, 36, 22
ROOM = WIDTH - LEFT - 44


@dataclass(frozen=True)
class Segment:
    x: str
    width: str
    colour: str
    title: str


@dataclass(frozen=True)
class Bar:
    label: str
    total: str
    end: str
    y: str
    middle: str
    segments: list[Segment]


@dataclass(frozen=True)
class Chart:
    """Numbers are strings: they go into the SVG as they are."""

    bars: list[Bar]
    legend: list[tuple[str, str]]
    description: str
    width: str = str(WIDTH)
    height: str = str(ROW * len(LEVEL_NAMES))
    left: str = str(LEFT)
    bar: str = str(BAR)


def draw(rows: "Sequence[Row]", languages: Sequence[str]) -> Chart:
    """Lay out a bar for each level of readability; `languages` gives the order of the colours."""
    colour_of = {name: f"c{min(index, COLOURS)}" for index, name in enumerate(languages)}
    counts = Counter((row.readability.level, row.language.name) for row in rows)
    totals = Counter(row.readability.level for row in rows if row.readability.level)
    largest = max(totals.values(), default=1)
    bars = []
    for number, level in enumerate(LEVEL_NAMES):
        x = float(LEFT)
        segments = []
        for name in languages:
            count = counts[level, name]
            if count:
                width = ROOM * count / largest
                segments.append(Segment(f"{x:.1f}", f"{width:.1f}", colour_of[name], f"{level}, {name}: {count}"))
                x += width
        y = ROW * number + (ROW - BAR) / 2
        bars.append(Bar(level, str(totals[level]), f"{x + 8:.1f}", f"{y:.1f}", f"{y + BAR / 2:.1f}", segments))
    return Chart(bars, _legend(languages, colour_of), ", ".join(f"{name}: {totals[name]}" for name in LEVEL_NAMES))


def _legend(languages: Sequence[str], colour_of: dict[str, str]) -> list[tuple[str, str]]:
    own = [(name, colour_of[name]) for name in languages[:COLOURS]]
    return own if len(languages) <= COLOURS else [*own, ("Other languages", f"c{COLOURS}")]
