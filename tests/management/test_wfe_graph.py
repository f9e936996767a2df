from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.management.calling import call
from tests.workflows import Number, add_stage, chain, fan
from workflow_engine.definitions import define_workflow
from workflow_engine.graphs import as_mermaid, as_text

Know = Callable[..., Any]


def test_without_a_workflow_those_there_are_get_listed(known: Know) -> None:
    known(chain(2), fan(2))

    called = call("wfe_graph")

    assert [line.split()[0] for line in called.lines] == ["workflow", "chain", "fan"]
    assert [item["workflow_id"] for item in call("wfe_graph", "--json").json["workflows"]] == ["chain", "fan"]


def test_without_any_workflow_it_says_where_they_belong(known: Know) -> None:
    called = call("wfe_graph")

    assert called.code == 0
    assert called.out.startswith("No workflow is registered. Put register(...)")


def test_a_workflow_is_drawn_in_the_format_asked_for(known: Know) -> None:
    workflow = known(fan(2))

    assert call("wfe_graph", "fan").out == f"{as_text(workflow)}\n"
    assert call("wfe_graph", "fan", "--format", "mermaid").out == f"{as_mermaid(workflow)}\n"
    assert ElementTree.fromstring(call("wfe_graph", "fan", "--format", "svg").out).tag.endswith("svg")
    assert call("wfe_graph", "fan", "--json").json["workflow_id"] == "fan"


@pytest.mark.parametrize("format", ["text", "mermaid", "svg"])
def test_retired_stages_are_not_drawn_but_told_to_programs(known: Know, format: str) -> None:
    base = define_workflow("changed", input=Number).pipe(add_stage("add-1"))
    known(base.parallel(add_stage("left"), add_stage("right"), fail_fast=True).retired(add_stage("before")).build())

    drawn, data = call("wfe_graph", "changed", "--format", format), call("wfe_graph", "changed", "--json").json

    assert (drawn.code, "right" in drawn.out.lower(), "before" in drawn.out.lower()) == (0, True, False)
    assert [group["fail_fast"] for group in data["groups"]] == [False, True]
    assert data["retired"] == ["before"]


def test_a_drawing_can_be_written_to_a_file(known: Know, tmp_path: Path) -> None:
    workflow = known(chain(1))
    file = tmp_path / "chain.txt"

    called = call("wfe_graph", "chain", "--output", str(file))

    assert called.out == ""
    assert file.read_text(encoding="utf-8") == f"{as_text(workflow)}\n"


def test_an_unknown_workflow_exits_with_2_and_names_the_known_ones(known: Know) -> None:
    known(chain(1))

    called = call("wfe_graph", "no")

    assert (called.code, called.error) == (2, "No workflow 'no' is registered. Registered: 'chain'.")


def test_a_file_that_cannot_be_written_exits_with_2(known: Know, tmp_path: Path) -> None:
    known(chain(1))

    called = call("wfe_graph", "chain", "--output", str(tmp_path / "missing" / "file.txt"))

    assert called.code == 2
    assert "cannot be written: No such file or directory" in called.error


@pytest.mark.parametrize("command", ["wfe_worker", "wfe_run", "wfe_status", "wfe_cancel", "wfe_answer", "wfe_graph"])
def test_every_command_tells_its_exit_codes_and_prints_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call(command, "--help")

    shown = capsys.readouterr().out
    assert "--json" in shown
    assert "exit codes:\n  0 " in shown
