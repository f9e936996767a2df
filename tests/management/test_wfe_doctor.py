from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.janitors import begin, set_stages
from tests.management.calling import call
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.kernel import Kernel
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.testing import FakeClock
from workflow_engine.testing.clock import START


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2))


@pytest.fixture
def stuck(kernel: Kernel) -> WorkflowRun:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    set_stages(run, "SKIPPED", finished_at=START)
    return run


@pytest.fixture
def lost(kernel: Kernel) -> WorkflowRun:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    set_stages(run, "RUNNING", worker=uuid.uuid4(), token=1, started_at=START)
    return run


def test_a_healthy_database_exits_with_0(kernel: Kernel) -> None:
    create_run("chain", {"value": 1})

    called = call("wfe_doctor")

    assert (called.code, called.lines, called.error) == (0, ["Nothing is wrong."], "")


def test_a_violation_exits_with_1_and_says_where_and_what_would_help(stuck: WorkflowRun) -> None:
    called = call("wfe_doctor")

    assert (called.code, called.error) == (1, "1 violation, 0 warnings.")
    assert called.lines[0] == "violation run.stuck (1)"
    assert [line.split(":")[0].strip() for line in called.lines[1:4]] == ["Means", "Causes", "Do"]
    assert "wfe_doctor --fix" in called.lines[3]
    assert called.lines[4].startswith(f"    run {stuck.pk}: ")


def test_warnings_alone_exit_with_0(lost: WorkflowRun) -> None:
    called = call("wfe_doctor")

    assert called.code == 0
    assert called.lines[0] == "warning lease.over (1)"
    assert f"run {lost.pk} stage add-1: The stage runs in worker" in called.lines[4]
    assert called.lines[-1] == "0 violations, 1 warning."


def test_fix_moves_what_can_be_moved_and_reports_what_is_left(
    clock: FakeClock, stuck: WorkflowRun, lost: WorkflowRun
) -> None:
    called = call("wfe_doctor", "--fix")

    assert (called.code, called.lines[-1]) == (0, "Nothing is wrong.")
    done = [line.split(" ")[:2] for line in called.lines[:-1]]
    assert [what for what in done if what[1] != "0"] == [["released:", "1"], ["transitioned:", "1"]]
    assert set(StageRun.objects.exclude(status="SKIPPED").values_list("status", flat=True)) == {"PENDING"}


def test_fix_leaves_alone_what_it_cannot_put_right(kernel: Kernel, stuck: WorkflowRun) -> None:
    run = create_run("chain", {"value": 1})
    WorkflowRun.objects.filter(pk=run.pk).update(event_seq=7)

    called = call("wfe_doctor", "--fix", "--json")

    assert called.code == 1
    assert [finding["code"] for finding in called.json["findings"]] == ["events.gap"]
    assert {what: count for what, count in called.json["fixed"].items() if count} == {"transitioned": 1}


def test_fix_says_what_it_has_left(kernel: Kernel) -> None:
    run = create_run("chain", {"value": 1})
    WorkflowRun.objects.filter(pk=run.pk).update(event_seq=7)

    assert call("wfe_doctor", "--fix").lines[-1] == "--fix has left the above: 1 events.gap."


def test_json_holds_every_finding(stuck: WorkflowRun, lost: WorkflowRun) -> None:
    found = call("wfe_doctor", "--json").json

    assert (found["violations"], found["warnings"], found["cut"], found["fixed"]) == (1, 1, [], {})
    assert (found["runs_seen"], found["all_runs_seen"]) == (2, True)
    assert (found["schema"], found["codes"].keys()) == (1, {"run.stuck", "lease.over"})
    assert found["codes"]["run.stuck"].keys() == {"severity", "means", "causes", "fix"}
    assert found["findings"][0].keys() == {"code", "severity", "run_id", "stage", "text", "fix"}
    assert [item["stage"] for item in found["findings"]] == [None, "add-1"]


def test_what_is_cut_is_said(kernel: Kernel) -> None:
    for _ in range(3):
        run = create_run("chain", {"value": 1})
        WorkflowRun.objects.filter(pk=run.pk).update(event_seq=7)

    called = call("wfe_doctor", "--limit", "1", "--runs", "2")

    assert "  There are more findings of events.gap than are listed." in called.lines
    assert "violation events.gap (1 or more)" in called.lines
    assert any("runs were looked at one by one, the newest and those that are open." in line for line in called.lines)


def test_all_runs_can_be_looked_at(kernel: Kernel) -> None:
    run = create_run("chain", {"value": 1})
    create_run("chain", {"value": 1})
    WorkflowRun.objects.filter(pk=run.pk).update(event_seq=7, status="CANCELLED", finished_at=START)

    assert call("wfe_doctor", "--runs", "1").code == 0
    assert call("wfe_doctor", "--all").code == 1
    assert "not allowed with argument --all" in call("wfe_doctor", "--all", "--runs", "1").error
