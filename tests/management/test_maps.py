"""What commands say of maps: one line per mapped stage, whatever the number of its items."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.management.calling import Terminal, call
from tests.maps import Importer
from tests.part_way import half_imported, reviews, until_items_ended
from workflow_engine import StageContext, create_run, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.management.changes import changed, in_words
from workflow_engine.management.looking import stages_of
from workflow_engine.models import WorkflowRun

Know = Callable[..., Any]


@pytest.fixture
def under_way(known: Know, host: InlineHost) -> WorkflowRun:
    return half_imported(known, host)


def test_a_run_shows_its_map_once_with_its_counts(under_way: WorkflowRun) -> None:
    called = call("wfe_status", str(under_way.pk))

    words = "8 of 20 items are done, 2 failed, 4 are under way"
    assert any(re.match(rf"import-line +SUSPENDED +1 +50% +\S+ m?s +{words}$|.*{words}$", one) for one in called.lines)
    assert sum(one.startswith("import-line") for one in called.lines) == 1
    assert any(one.startswith(f"now         Stage import-line: {words}.") for one in called.lines)


def test_programs_get_the_counts(under_way: WorkflowRun) -> None:
    stages = call("wfe_status", str(under_way.pk), "--json").json["stages"]

    assert [stage["items"] for stage in stages] == [
        None,
        {"total": 20, "done": 8, "failed": 2, "cancelled": 0, "running": 4},
        None,
    ]
    mapped = stages[1]
    assert (mapped["status"], mapped["percent"], mapped["message"]) == ("SUSPENDED", 50.0, "8 of 20 items, 2 failed")
    assert (mapped["suspended"]["waits_for"], mapped["suspended"]["wake_at"]) == ("items", None)
    assert "9999" not in json.dumps(stages)


def test_looking_costs_the_same_whatever_the_number_of_items(known: Know, host: InlineHost) -> None:
    known(Importer(max_parallel=2).workflow)
    counts = []

    for size in (3, 200):
        run = create_run("importer", size)
        until_items_ended(host, run, 1)
        with CaptureQueriesContext(connection) as queries:
            assert len(stages_of(run)) == 3
        counts.append(len(queries))

    assert counts[0] == counts[1] == 3


def test_a_map_that_has_ended_keeps_its_counts(under_way: WorkflowRun, host: InlineHost) -> None:
    host.drain()

    called = call("wfe_status", str(under_way.pk))

    assert any(re.match(r"import-line +COMPLETED .* 18 of 20 items, 2 failed$", one) for one in called.lines)


def test_the_first_item_that_asks_is_told_with_the_command_that_answers_it(known: Know, host: InlineHost) -> None:
    run = create_run(known(reviews()), ["a", "b"])
    host.drain()

    asked = call("wfe_status", str(run.pk))
    call("wfe_answer", str(run.pk), "review", "--item", "0", "--data", "true")
    again = call("wfe_status", str(run.pk), "--json")

    assert f"Answer it with: manage.py wfe_answer {run.pk} review --item 0 --data JSON" in asked.lines
    asking = again.json["stages"][0]["asking_item"]
    assert (asking["item"], asking["wait"], asking["words"]) == (1, "look", "waits for the answer 'look'")


def test_items_are_answered_one_by_one(known: Know, host: InlineHost) -> None:
    run = create_run(known(reviews()), ["a", "b"])
    host.drain()

    whole = call("wfe_answer", str(run.pk), "review", "--data", "true")
    beyond = call("wfe_answer", str(run.pk), "review", "--item", "2", "--data", "true")
    for item, data in (("1", "true"), ("0", "false")):
        assert call("wfe_answer", str(run.pk), "review", "--item", item, "--data", data).code == 0
    host.drain()

    assert (whole.code, beyond.code) == (1, 1)
    assert "it has no item 2" in beyond.error
    run.refresh_from_db()
    assert run.get_output() == ["a: False", "b: True"]


def test_of_a_map_under_way_each_twentieth_is_told_and_its_first_failure(under_way: WorkflowRun) -> None:
    def told(**counts: int) -> bool:
        items = {**(line.items or {}), **counts}
        percent = 100 * (items["done"] + items["failed"]) / items["total"]
        return bool(list(changed([line], [replace(line, items=items, percent=percent)])))

    line = replace(stages_of(under_way)[1], items={"total": 1000, "done": 500, "failed": 0}, percent=50.0)

    assert not told(done=501)
    assert not told(done=549)
    assert told(done=550)
    assert told(done=500, failed=1)
    assert in_words(None, stages_of(under_way)[1]) == "8 of 20 items are done, 2 failed, 4 are under way"


@pytest.mark.django_db(transaction=True)
def test_watching_tells_how_far_the_items_are(known: Know) -> None:
    known(Importer(max_parallel=4).workflow)

    lines = call("wfe_run", "importer", "--input", "40", "--watch")

    assert "import-line  completed in" in lines.out
    assert "40 of 40 items" in lines.out
    assert sum("are done" in one for one in lines.lines) <= 20


@pytest.mark.django_db(transaction=True)
def test_the_table_of_a_terminal_has_one_row_per_stage(known: Know, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    known(Importer(max_parallel=4).workflow)

    shown = call("wfe_run", "importer", "--input", "9", "--watch", out=Terminal())

    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.out).rsplit("importer  COMPLETED", 1)[1]
    assert last.count("import-line") == 1
    assert re.search(r"✓  import-line +1 +━+ .*9 of 9 items", last)


def test_failed_items_run_again_alone(known: Know, host: InlineHost) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {1, 3}
    run = create_run(known(importer.workflow), 5)
    host.drain()
    importer.bad.clear()

    preview = call("wfe_rerun", str(run.pk), "import-line", "--failed-items", "--preview")
    as_json = call("wfe_rerun", str(run.pk), "import-line", "--failed-items", "--preview", "--json").json
    done = call("wfe_rerun", str(run.pk), "import-line", "--failed-items")
    host.drain()

    assert any(re.match(r"2 +import-line +COMPLETED +its 2 failed items run again$", one) for one in preview.lines)
    assert (as_json["only_failed_items"], as_json["items_again"]) == (True, 2)
    assert done.out == f"Run {run.pk} goes on from the failed items of import-line (generation 1).\n"
    assert importer.entered == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1}


def test_without_failed_items_there_is_nothing_to_rerun_of_them(known: Know, host: InlineHost) -> None:
    run = create_run(known(Importer().workflow), 2)
    host.drain()

    called = call("wfe_rerun", str(run.pk), "import-line", "--failed-items")

    assert called.code == 1
    assert "none of its items has failed" in called.error


def test_of_the_files_of_many_items_the_first_are_listed(known: Know, host: InlineHost) -> None:
    @stage("print")
    def print_out(ctx: StageContext[int]) -> None:
        ctx.artifact("page.txt", str(ctx.input))

    run = create_run(known(define_workflow("prints", input=list[int]).map(print_out).build()), list(range(23)))
    host.drain()

    lines = call("wfe_status", str(run.pk)).lines

    assert sum(one.startswith("  page.txt ") for one in lines) == 20
    assert "  and 3 more: --json lists all" in lines
    assert len(call("wfe_status", str(run.pk), "--json").json["artifacts"]) == 23


def test_log_lines_of_items_tell_which(known: Know, host: InlineHost) -> None:
    @stage("speak")
    def speak(ctx: StageContext[str]) -> None:
        ctx.log.info(ctx.input)

    run = create_run(known(define_workflow("speeches", input=list[str]).map(speak).build()), ["one", "two"])
    host.drain()

    assert [line.split("INFO")[1].split() for line in call("wfe_status", str(run.pk)).lines if "INFO" in line] == [
        ["speak", "#0", "one"],
        ["speak", "#1", "two"],
    ]
    logs = call("wfe_status", str(run.pk), "--json").json["logs"]
    assert [(line["item_index"], line["message"]) for line in logs] == [(0, "one"), (1, "two")]
