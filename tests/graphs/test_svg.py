from __future__ import annotations

from xml.etree import ElementTree

from tests.graphs.orders import NASTY, named, orders
from workflow_engine import Output
from workflow_engine.definitions import Workflow, define_workflow
from workflow_engine.graphs import as_svg
from workflow_engine.graphs.layout import lay_out

SVG = "{http://www.w3.org/2000/svg}"


def texts(workflow: Workflow[int, int]) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(as_svg(workflow)).iter(f"{SVG}text")]


def test_names_ids_and_facts_stand_in_the_drawing_whatever_characters_they_hold() -> None:
    found = texts(orders())

    assert {NASTY, "orders · version 7", "From cart to door", "Group 2", "pack", "queue hands", "needs end"} <= {*found}
    assert found.count("no retry") == 1


def test_characters_that_xml_cannot_hold_are_left_out() -> None:
    root = ElementTree.fromstring(as_svg(orders()))

    tips = [element.text for element in root.iter(f"{SVG}title")]
    assert any(tip is not None and tip.endswith("Print the <label>") for tip in tips)


def test_the_drawing_needs_nothing_else_and_runs_nothing() -> None:
    drawing = as_svg(orders())

    kinds = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(drawing).iter()}
    assert kinds == {"svg", "title", "desc", "style", "rect", "path", "g", "text"}
    assert "url(" not in drawing and "@import" not in drawing and "href" not in drawing


def test_a_long_name_is_cut_in_the_box_and_whole_in_its_tip() -> None:
    workflow = define_workflow("long", input=int).pipe(named("a", name="x" * 100)).build()

    root = ElementTree.fromstring(as_svg(workflow))

    assert f"{'x' * 43}…" in texts(workflow)
    assert any((tip.text or "").startswith("x" * 100) for tip in root.iter(f"{SVG}title"))


def test_groups_are_columns_and_boxes_never_overlap_or_leave_the_paper() -> None:
    layout = lay_out(orders())

    for before, after in zip(layout.columns, layout.columns[1:], strict=False):
        assert before.right < after.x
    for column in layout.columns:
        for upper, lower in zip(column.boxes, column.boxes[1:], strict=False):
            assert upper.y + upper.height < lower.y
        assert column.right < layout.width and column.boxes[-1].y + column.boxes[-1].height < layout.height


def test_the_arrows_of_a_wide_workflow_grow_with_its_stages_not_with_their_pairs() -> None:
    def curves(width: int) -> int:
        stages = [[named(f"{letter}-{number}") for number in range(width)] for letter in "ab"]
        workflow = define_workflow("wide", input=int).parallel(*stages[0]).parallel(*stages[1]).build()
        return as_svg(workflow).count("C")

    assert curves(40) - curves(20) < 100


def test_conditions_and_waits_stand_in_the_box_and_whole_in_its_tip() -> None:
    long = Output("a").text == "<b>" + "x" * 60
    workflow = define_workflow("long", input=int).pipe(named("a")).pipe(named("b", when=long)).build()

    root = ElementTree.fromstring(as_svg(workflow))

    assert any((text or "").startswith("only if a.text == '<b>xxx") for text in texts(workflow))
    assert any(f"only if a.text == '<b>{'x' * 60}'" in (tip.text or "") for tip in root.iter(f"{SVG}title"))


def test_a_mapped_stage_lies_on_others_like_it() -> None:
    workflow = define_workflow("map", input=list[int]).map(named("each"), max_parallel=5).pipe(named("end")).build()

    root = ElementTree.fromstring(as_svg(workflow))

    boxes = [len(list(group.iter(f"{SVG}rect"))) for group in root.iter(f"{SVG}g")]
    assert boxes == [3, 1]
    assert {"× items, 5 at a time", "a failed item fails it"} <= {*texts(workflow)}
    width, right = (
        float(root.attrib["width"]),
        max(
            float(one.attrib["x"]) + float(one.attrib["width"]) for one in root.iter(f"{SVG}rect") if "x" in one.attrib
        ),
    )
    assert right <= width
