"""A workflow as an SVG that needs nothing else: no script, no font, no second file; light and dark."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Any

from workflow_engine.definitions import Workflow

from .facts import facts_of
from .layout import BOX_LINE, BOX_PADDING, HEAD_LINE, MARGIN, Box, Column, Layout, lay_out
from .words import one_line

_STYLE = """
.wfe-graph { --paper: #ffffff; --box: #f6f8fa; --line: #6e7781; --ink: #1f2328; --soft: #57606a; }
@media (prefers-color-scheme: dark) {
  .wfe-graph { --paper: #0d1117; --box: #161b22; --line: #848d97; --ink: #e6edf3; --soft: #9da5ae; }
}
.wfe-graph text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft); }
.wfe-graph .wfe-title { font-size: 18px; font-weight: 600; fill: var(--ink); }
.wfe-graph .wfe-name { font-size: 14px; font-weight: 600; fill: var(--ink); }
.wfe-graph .wfe-id { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.wfe-graph .wfe-paper { fill: var(--paper); }
.wfe-graph .wfe-box { fill: var(--box); stroke: var(--line); }
.wfe-graph .wfe-arrow { fill: none; stroke: var(--line); stroke-width: 1.5; }
.wfe-graph .wfe-tip { fill: var(--line); }
""".strip()
_TIP = 8
_SHEET = 4


def as_svg(workflow: Workflow[Any, Any]) -> str:
    """Return the drawing as an SVG element, without a newline at its end. Every text in it is escaped."""
    layout = lay_out(workflow)
    width, height = f"{layout.width:g}", f"{layout.height:g}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wfe-graph" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f"<title>{_escape(workflow.name)}</title>",
        f"<desc>{_escape(_description(workflow))}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="wfe-paper" width="{width}" height="{height}"/>',
        *_head(layout),
    ]
    for before, after in pairwise(layout.columns):
        parts += _arrows(before, after, layout.axis)
    for column in layout.columns:
        parts += _column(column)
    return "\n".join([*parts, "</svg>"])


def _description(workflow: Workflow[Any, Any]) -> str:
    groups = (f"{group.number}: {', '.join(stage.name for stage in group.stages)}" for group in workflow.groups)
    return "Groups of stages in their order. " + "; ".join(groups)


def _head(layout: Layout) -> list[str]:
    kinds = ("wfe-title", "wfe-id", "wfe-text")
    return [
        _text(MARGIN, MARGIN + HEAD_LINE * number + 14, kind, line)
        for number, (line, kind) in enumerate(zip(layout.head, kinds, strict=False))
    ]


def _arrows(before: Column, after: Column, axis: float) -> list[str]:
    """Draw from each stage to a point between the columns, and from there to each: not every pair, so it stays few."""
    knot = (before.right + after.x) / 2
    ways = [_curve(box.x + box.width, box.middle, knot, axis) for box in before.boxes]
    ways += [_curve(knot, axis, box.x - _TIP, box.middle) for box in after.boxes]
    tips = [f"M{box.x:g} {box.middle:g}l{-_TIP} {-_TIP / 2:g}v{_TIP}z" for box in after.boxes]
    return [f'<path class="wfe-arrow" d="{"".join(ways)}"/>', f'<path class="wfe-tip" d="{"".join(tips)}"/>']


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (x + to_x) / 2
    return f"M{x:g} {y:g}C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}"


def _column(column: Column) -> list[str]:
    parts = [_text(column.x, column.y, "wfe-text", f"Group {column.number}")]
    for box in column.boxes:
        parts += _box(box)
    return parts


def _box(box: Box) -> list[str]:
    """Draw a stage; what had to be cut stands in full in its tooltip."""
    tip = "\n".join(
        [one_line(box.stage.name), box.stage.id, *facts_of(box.stage, box.mapped), box.stage.description]
    ).strip()
    kinds = ("wfe-name", "wfe-id", *["wfe-text"] * (len(box.lines) - 2))
    texts = [
        _text(box.x + BOX_PADDING, box.y + BOX_PADDING + BOX_LINE * number + 14, kind, line)
        for number, (line, kind) in enumerate(zip(box.lines, kinds, strict=True))
    ]
    # One that is mapped lies on top of others like it.
    sheets = [_rectangle(box, away) for away in ((2 * _SHEET, _SHEET, 0) if box.mapped else (0,))]
    return ["<g>", f"<title>{_escape(tip)}</title>", *sheets, *texts, "</g>"]


def _rectangle(box: Box, away: float) -> str:
    place = f'x="{box.x + away:g}" y="{box.y + away:g}" width="{box.width:g}" height="{box.height:g}"'
    return f'<rect class="wfe-box" {place} rx="6"/>'


def _text(x: float, y: float, kind: str, content: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{_escape(content)}</text>'


def _escape(text: str) -> str:
    """Return text for an XML document: escaped, and without the characters that XML knows no way to write."""
    return escape("".join(letter for letter in text if letter == "\n" or letter.isprintable()))
