"""The graph of a run as inline SVG: groups are columns, stages rows. Pure functions; every text is escaped.

Colours come from classes of the style sheet: no script, no style attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from workflow_engine.models import StageMap
from workflow_engine.statuses import StageStatus

from .maps import bar_of, parts_of

NODE_WIDTH, NODE_HEIGHT = 208, 54
COLUMN_GAP, ROW_GAP, MARGIN, HEADING = 40, 14, 10, 22
LONGEST_ID, LONGEST_NOTE = 23, 29
# A mapped stage lies on others like it, so far away.
SHEET = 4


class Row(Protocol):
    """What the graph reads of a stage run."""

    stage: str
    status: str
    attempt: int
    failures: int
    crashes: int
    progress: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Node:
    """A stage as it is drawn; ``status`` is empty before it has begun to exist."""

    stage_id: str
    status: str
    note: str
    percent: float | None = None
    # In full, where the note has no room for it.
    tip: str = ""
    mapped: bool = False
    # Shares of the items by status, from 0 to 1.
    parts: tuple[tuple[str, float], ...] = ()


def nodes_of(
    plan: Mapping[str, Any],
    rows: Iterable[Row],
    notes: Mapping[str, str],
    tips: Mapping[str, str] | None = None,
    counts: Mapping[str, StageMap] | None = None,
) -> list[list[Node]]:
    """Return the columns of the graph.

    Args:
        plan: the run's plan, ``{"groups": [{"stages": [{"id": …}]}]}``.
        rows: its current stage runs, one per stage.
        notes: stage id -> what to say behind its status, a duration say.
        tips: stage id -> what the box has no room for.
        counts: stage id -> how far the items of a mapped stage are.
    """
    found, more, maps = {row.stage: row for row in rows}, tips or {}, counts or {}

    def node(item: Mapping[str, Any]) -> Node:
        stage_id = item["id"]
        row, note, tip = found.get(stage_id), notes.get(stage_id, ""), more.get(stage_id, "")
        return _node(item, row, note, tip, maps.get(stage_id))

    return [[node(item) for item in group["stages"]] for group in plan["groups"]]


def _node(item: Mapping[str, Any], row: Row | None, note: str, tip: str, counts: StageMap | None) -> Node:
    stage_id, mapped = item["id"], "map" in item
    if row is None:
        return Node(stage_id, "", note or _("Not begun"), tip=tip, mapped=mapped)
    status = StageStatus(row.status)
    if counts is not None and status == StageStatus.SUSPENDED:
        # Its items run; that it is suspended itself says little.
        return Node(stage_id, StageStatus.RUNNING, note, None, tip, mapped, parts_of(counts))
    percent = (row.progress or {}).get("percent") if status == StageStatus.RUNNING else None
    words = [str(status.label), note] if note else [str(status.label)]
    # A stage that has waited began again with each answer: such attempts are no retries.
    if row.failures or row.crashes:
        words.append(_("attempt %(number)d") % {"number": row.attempt})
    return Node(stage_id, status, " · ".join(words), percent, tip, mapped, () if counts is None else parts_of(counts))


def draw(columns: Sequence[Sequence[Node]], *, title: str) -> SafeString:
    """Return the ``<svg>`` element; each stage links to ``#stage-<id>``. Empty for a plan without stages."""
    tallest = max((len(nodes) for nodes in columns), default=0)
    if not tallest:
        return SafeString("")
    width = 2 * MARGIN + len(columns) * NODE_WIDTH + (len(columns) - 1) * COLUMN_GAP
    height = 2 * MARGIN + HEADING + tallest * NODE_HEIGHT + (tallest - 1) * ROW_GAP
    places = [_places(number, len(nodes), height) for number, nodes in enumerate(columns)]
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg" class="wfe-graph" role="group" aria-label="{}" '
        'width="{}" height="{}" viewBox="0 0 {} {}">{}{}{}</svg>',
        title,
        width,
        height,
        width,
        height,
        format_html_join("", "{}", ((_edges(before, after, height),) for before, after in pairwise(places))),
        format_html_join("", "{}", ((_heading(number, len(columns)),) for number in range(len(columns)))),
        format_html_join(
            "",
            "{}",
            (
                (_box(node, x, y),)
                for nodes, where in zip(columns, places, strict=True)
                for node, (x, y) in zip(nodes, where, strict=True)
            ),
        ),
    )


def _places(column: int, count: int, height: float) -> list[tuple[float, float]]:
    """Return the top left corners of a column's boxes, centred on the graph's axis."""
    x = MARGIN + column * (NODE_WIDTH + COLUMN_GAP)
    tall = count * NODE_HEIGHT + (count - 1) * ROW_GAP
    top = HEADING + (height - HEADING - tall) / 2
    return [(x, top + row * (NODE_HEIGHT + ROW_GAP)) for row in range(count)]


def _edges(before: list[tuple[float, float]], after: list[tuple[float, float]], height: float) -> SafeString:
    """Draw from each box to a knot between the columns and from there to each: few lines, however many stages."""
    knot_x = after[0][0] - COLUMN_GAP / 2
    knot_y = HEADING + (height - HEADING) / 2
    ways = [_curve(x + NODE_WIDTH, y + NODE_HEIGHT / 2, knot_x, knot_y) for x, y in before]
    ways += [_curve(knot_x, knot_y, x, y + NODE_HEIGHT / 2) for x, y in after]
    return format_html('<path class="wfe-edge" fill="none" d="{}"/>', "".join(ways))


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (x + to_x) / 2
    return f"M{x:g} {y:g}C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}"


def _heading(column: int, count: int) -> SafeString:
    x = MARGIN + column * (NODE_WIDTH + COLUMN_GAP)
    text = _("Group %(number)d") % {"number": column + 1} if count > 1 else ""
    return format_html('<text class="wfe-heading" x="{}" y="{}">{}</text>', x, MARGIN + 8, text)


def _box(node: Node, x: float, y: float) -> SafeString:
    kind = node.status.lower() or "absent"
    bar = SafeString("")
    if node.parts:
        bar = bar_of(node.parts, x=14, y=NODE_HEIGHT - 9, width=NODE_WIDTH - 24, height=3)
    elif node.percent is not None:
        filled = max(0.0, min(100.0, node.percent)) / 100 * (NODE_WIDTH - 24)
        bar = format_html(
            '<rect class="wfe-track" x="14" y="{}" width="{}" height="3" rx="1.5"/>'
            '<rect class="wfe-fill" x="14" y="{}" width="{}" height="3" rx="1.5"/>',
            NODE_HEIGHT - 9,
            NODE_WIDTH - 24,
            NODE_HEIGHT - 9,
            f"{filled:g}",
        )
    return format_html(
        '<a href="#stage-{}"><g class="wfe-node wfe-{}" transform="translate({} {})"><title>{}</title>'
        '{}<rect class="wfe-box" width="{}" height="{}" rx="6"/>'
        '<path class="wfe-strip" d="M6 0A6 6 0 0 0 0 6V{}A6 6 0 0 0 6 {}Z"/>'
        '<text class="wfe-name" x="14" y="21">{}</text><text class="wfe-note" x="14" y="39">{}</text>{}</g></a>',
        node.stage_id,
        kind,
        f"{x:g}",
        f"{y:g}",
        f"{node.stage_id}: {node.tip or node.note}",
        _sheets() if node.mapped else "",
        NODE_WIDTH,
        NODE_HEIGHT,
        NODE_HEIGHT - 6,
        NODE_HEIGHT,
        _fit(node.stage_id, LONGEST_ID),
        _fit(node.note, LONGEST_NOTE),
        bar,
    )


def _sheets() -> SafeString:
    sheet = '<rect class="wfe-box wfe-sheet" x="{}" y="{}" width="{}" height="{}" rx="6"/>'
    places = ((away, away, NODE_WIDTH, NODE_HEIGHT) for away in (2 * SHEET, SHEET))
    return format_html_join("", sheet, places)


def _fit(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
