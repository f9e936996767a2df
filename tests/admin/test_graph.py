from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest

from workflow_engine.admin.graph import Node, draw, nodes_of
from workflow_engine.models import StageMap
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


def test_a_mapped_stage_shows_what_has_become_of_its_items() -> None:
    plan = {"groups": [{"stages": [{"id": "a", "map": {}}]}]}
    counts = StageMap(stage="a", total=1000, done=500, failed=100, cancelled=0, opened=664)

    (under_way,) = nodes_of(plan, [Row("a", "SUSPENDED")], {"a": "500 of 1,000"}, counts={"a": counts})[0]
    (failed,) = nodes_of(plan, [Row("a", "FAILED")], {"a": "2 s"}, counts={"a": counts})[0]
    (absent,) = nodes_of(plan, [], {})[0]

    shares = (("completed", 0.5), ("failed", 0.1), ("running", 0.064))
    assert (under_way.status, under_way.note, under_way.parts) == ("RUNNING", "500 of 1,000", shares)
    assert (failed.status, failed.note, failed.parts) == ("FAILED", "Failed · 2 s", shares)
    assert (absent.mapped, absent.parts) == (True, ())
    root = ElementTree.fromstring(draw([[under_way]], title=""))
    kinds = [one.attrib["class"] for one in root.findall(".//{*}rect")]
    assert kinds == [
        *["wfe-box wfe-sheet"] * 2,
        "wfe-box",
        "wfe-track",
        "wfe-fill wfe-completed",
        "wfe-fill wfe-failed",
        "wfe-fill wfe-running",
    ]


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
