from __future__ import annotations

import re

from tests.graphs.orders import named, orders
from workflow_engine.definitions import define_workflow
from workflow_engine.graphs import as_mermaid


def test_a_line_of_stages_is_a_line_of_nodes() -> None:
    workflow = define_workflow("line", input=int).pipe(named("a")).pipe(named("b")).build()

    lines = as_mermaid(workflow).splitlines()

    assert lines[0] == "flowchart LR"
    assert [line.strip() for line in lines if "-->" in line] == ["stage1 --> stage2"]


def test_a_group_of_several_stages_is_a_box_that_arrows_end_at() -> None:
    lines = [line.strip() for line in as_mermaid(orders()).splitlines()]

    assert 'subgraph group2["Group 2"]' in lines
    assert [line for line in lines if "-->" in line] == ["stage1 --> group2", "group2 --> stage5"]


def test_no_name_can_end_its_label_or_become_markup() -> None:
    labels = re.findall(r'^ *stage\d+\["(.*)"\]$', as_mermaid(orders()), flags=re.MULTILINE)

    assert len(labels) == 5
    for label in labels:
        assert not set('"&<>`[]') & set(label.replace("<br/>", ""))
    assert labels[1].startswith(
        "1. #60;b#62;#34;#38;amp#59;#34; #96;x#96; #35;35#59; #93;#93; 注文<br/>pay<br/>no retry"
    )


def test_a_mapped_stage_has_double_edges() -> None:
    workflow = define_workflow("map", input=list[int]).map(named("each"), max_parallel=5).build()

    (node,) = [line.strip() for line in as_mermaid(workflow).splitlines() if "stage1" in line]

    assert node.startswith('stage1[["Each<br/>each<br/>× items, 5 at a time<br/>a failed item fails it<br/>')
    assert node.endswith('"]]')
