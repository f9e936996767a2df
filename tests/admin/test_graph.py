from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest

from workflow_engine.admin.graph import Node, draw, nodes_of
from workflow_engine.statuses import StageStatus


@dataclass
class Row:
    stage: str
    status: str
    attempt: int = 1
    failures: int = 0
    crashes: int = 0
    progress: dict[str, Any] | None = None


def plan(*groups: list[str]) -> dict[str, Any]:
    return {"groups": [{"stages": [{"id": item} for item in group]} for group in groups]}


def test_stages_without_a_row_have_not_begun() -> None:
    columns = nodes_of(plan(["a"], ["b", "c"]), [Row("a", StageStatus.COMPLETED)], {"a": "2 s"})

    assert columns == [
        [Node("a", "COMPLETED", "Completed · 2 s")],
        [Node("b", "", "Not begun"), Node("c", "", "Not begun")],
    ]


def test_a_stage_of_several_items_shows_what_most_asks_for_attention() -> None:
    rows = [Row("a", StageStatus.COMPLETED), Row("a", StageStatus.FAILED), Row("a", StageStatus.RUNNING)]

    node = nodes_of(plan(["a"]), rows, {})[0][0]

    assert (node.status, node.note) == ("FAILED", "Failed · 1/3")


def test_a_running_stage_shows_how_far_it_is() -> None:
    node = nodes_of(
        plan(["a"]), [Row("a", "RUNNING", attempt=2, failures=1, progress={"percent": 40.0})], {"a": "1 s"}
    )[0][0]

    assert (node.percent, node.note) == (40.0, "Running · 1 s · attempt 2")


def test_the_attempts_of_a_stage_that_has_waited_are_no_retries() -> None:
    node = nodes_of(plan(["a"]), [Row("a", "COMPLETED", attempt=2)], {"a": "1 s"})[0][0]

    assert node.note == "Completed · 1 s"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_drawing_is_well_formed_and_holds_every_stage_once(count: int) -> None:
    columns = nodes_of(plan(["first"], [f"stage-{number}" for number in range(count)], ["last"]), [], {})

    root = ElementTree.fromstring(draw(columns, title="The graph"))

    nodes = root.findall(".//{*}g")
    assert len(nodes) == count + 2
    assert len(root.findall("{*}path")) == 2


def test_names_and_notes_are_escaped() -> None:
    drawing = draw([[Node('"><script>', "RUNNING", "<b>&", 50)]], title='"><script>')

    assert "<script>" not in drawing
    assert "<b>" not in drawing
    ElementTree.fromstring(drawing)


def test_nothing_is_drawn_for_a_plan_without_stages() -> None:
    assert draw([], title="") == ""
