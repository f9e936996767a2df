"""Where everything of a drawing stands: groups are columns, their stages are boxes below each other. In pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflow_engine.definitions import Group, Stage, Workflow
from workflow_engine.definitions.items import ItemMap

from .facts import facts_of
from .words import cut, one_line, width_of

MARGIN, COLUMN_GAP, ROW_GAP = 24, 72, 16
HEAD_LINE, BOX_LINE, BOX_PADDING, GROUP_LINE = 24, 19, 12, 26
NARROWEST = 150
LONGEST, LONGEST_HEAD = 44, 100
# Width of a letter in the widest font that browsers fall back to.
TITLE_LETTER, NAME_LETTER, ID_LETTER, FACT_LETTER = 12.0, 9.4, 7.5, 7.2


@dataclass(frozen=True, slots=True)
class Box:
    """A stage, ``mapped`` over items or not; ``lines`` are its name, its id and its facts."""

    stage: Stage[Any, Any, Any]
    mapped: ItemMap | None
    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Column:
    """A group; ``y`` is the base line of its heading."""

    number: int
    x: float
    y: float
    boxes: tuple[Box, ...]

    @property
    def right(self) -> float:
        return self.x + self.boxes[0].width


@dataclass(frozen=True, slots=True)
class Layout:
    head: tuple[str, ...]
    columns: tuple[Column, ...]
    width: float
    height: float

    @property
    def axis(self) -> float:
        """The height at which all columns are centred."""
        boxes = self.columns[0].boxes
        return (boxes[0].y + boxes[-1].y + boxes[-1].height) / 2


def lay_out(workflow: Workflow[Any, Any]) -> Layout:
    """Return the places of everything in the drawing."""
    head = _head(workflow)
    top = MARGIN + HEAD_LINE * len(head) + GROUP_LINE + BOX_PADDING
    tallest = max(_column_height([_lines(stage, group.map) for stage in group.stages]) for group in workflow.groups)
    columns: list[Column] = []
    for group in workflow.groups:
        x = columns[-1].right + COLUMN_GAP if columns else MARGIN
        columns.append(_column(group, x, top, tallest))
    letters = (TITLE_LETTER, ID_LETTER, FACT_LETTER)
    widest = max(MARGIN + width_of(line) * letter for line, letter in zip(head, letters, strict=False))
    return Layout(head, tuple(columns), max(columns[-1].right, widest) + MARGIN, top + tallest + MARGIN)


def _head(workflow: Workflow[Any, Any]) -> tuple[str, ...]:
    lines = [cut(one_line(workflow.name), LONGEST), f"{workflow.id} · version {one_line(workflow.version)}"]
    if workflow.description:
        lines.append(cut(one_line(workflow.description), LONGEST_HEAD))
    return tuple(lines)


def _column(group: Group, x: float, top: float, tallest: float) -> Column:
    """Place a group in the middle of the height of the tallest one."""
    texts = [_lines(stage, group.map) for stage in group.stages]
    width = max(_box_width(lines) for lines in texts)
    y = top + (tallest - _column_height(texts)) / 2
    heading, boxes = y - BOX_PADDING, []
    for stage, lines in zip(group.stages, texts, strict=True):
        boxes.append(Box(stage, group.map, lines, x, y, width, _box_height(lines)))
        y += _box_height(lines) + ROW_GAP
    return Column(group.number, x, heading, tuple(boxes))


def _lines(stage: Stage[Any, Any, Any], mapped: ItemMap | None) -> tuple[str, ...]:
    return tuple(cut(line, LONGEST) for line in (one_line(stage.name), stage.id, *facts_of(stage, mapped)))


def _box_height(lines: tuple[str, ...]) -> float:
    return BOX_LINE * len(lines) + 2 * BOX_PADDING


def _column_height(column: list[tuple[str, ...]]) -> float:
    return sum(_box_height(lines) for lines in column) + ROW_GAP * (len(column) - 1)


def _box_width(lines: tuple[str, ...]) -> float:
    letters = [NAME_LETTER, ID_LETTER, *[FACT_LETTER] * (len(lines) - 2)]
    widest = max(width_of(line) * letter for line, letter in zip(lines, letters, strict=True))
    return max(NARROWEST, widest + 2 * BOX_PADDING)
