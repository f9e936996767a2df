from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.management.calling import call
from tests.waits import purchase
from workflow_engine import cancel_run, create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.management.command import whoami
from workflow_engine.models import StageMemo, StageRun, WorkflowRun

pytestmark = pytest.mark.django_db
YES = json.dumps({"outcome": "approved"})


@pytest.fixture
def waiting(known: Callable[..., Any], host: InlineHost) -> WorkflowRun:
    """Return a run that waits for the manager."""
    run = create_run(known(purchase()), {"amount": 200})
    host.drain()
    return run


def test_a_stage_gets_its_answer_and_goes_on(waiting: WorkflowRun, host: InlineHost) -> None:
    called = call("wfe_answer", str(waiting.pk), "approve", "--data", YES)
    host.drain()

    waiting.refresh_from_db()
    memo = StageMemo.objects.get()
    assert (called.code, called.lines) == (0, ["Stage approve has the answer 'manager', and goes on."])
    assert (memo.actor, memo.get_value()) == (whoami(), {"outcome": "approved", "note": ""})
    assert waiting.status == "COMPLETED"


def test_the_answer_may_stand_in_a_file_and_the_result_is_json(waiting: WorkflowRun, tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    file.write_text(YES, encoding="utf-8")

    called = call("wfe_answer", str(waiting.pk), "approve", "--data", f"@{file}", "--wait", "manager", "--json")

    assert called.json == {
        "run_id": str(waiting.pk),
        "stage_id": "approve",
        "item": None,
        "wait": "manager",
        "answered": True,
    }


def test_an_answer_that_does_not_fit_exits_with_2_and_names_every_field(waiting: WorkflowRun) -> None:
    called = call("wfe_answer", str(waiting.pk), "approve", "--data", '{"outcome": "maybe", "note": 1}', "--json")

    assert called.code == 2
    assert {field["path"] for field in called.json["error"]["fields"]} == {"outcome", "note"}
    assert called.json["error"]["code"] == "INVALID_INPUT"
    assert called.error.startswith("Invalid input of the answer 'manager' of stage 'approve':\n  outcome: ")
    assert StageRun.objects.get(stage="approve").status == "SUSPENDED"


@pytest.mark.parametrize("data", ["{", "@/nowhere/at-all.json"])
def test_what_cannot_be_read_exits_with_2(waiting: WorkflowRun, data: str) -> None:
    called = call("wfe_answer", str(waiting.pk), "approve", "--data", data)

    assert called.code == 2
    assert called.error.startswith("--data: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("approve", "--wait", "board"), "NOT_WAITING"),
        (("approve", "--item", "3"), "NOT_WAITING"),
        (("buy",), "NOT_WAITING"),
    ],
)
def test_a_stage_that_does_not_wait_for_this_exits_with_1(
    waiting: WorkflowRun, arguments: tuple[str, ...], code: str
) -> None:
    called = call("wfe_answer", str(waiting.pk), *arguments, "--data", YES, "--json")

    assert (called.code, called.json["error"]["code"]) == (1, code)
    assert not StageMemo.objects.exists()


def test_a_second_answer_and_one_for_an_ended_run_exit_with_1(waiting: WorkflowRun) -> None:
    call("wfe_answer", str(waiting.pk), "approve", "--data", YES)

    again = call("wfe_answer", str(waiting.pk), "approve", "--data", YES)
    cancel_run(waiting)
    late = call("wfe_answer", str(waiting.pk), "approve", "--wait", "board", "--data", "true")

    assert (again.code, late.code) == (1, 1)
    assert "is answered already" in again.error
    assert "the run is CANCELLED" in late.error


@pytest.mark.parametrize("run_id", ["nonsense", "01890000-0000-7000-8000-000000000000"])
def test_a_run_that_does_not_exist_exits_with_3(host: InlineHost, run_id: str) -> None:
    called = call("wfe_answer", run_id, "approve", "--data", YES)

    assert (called.code, called.error) == (3, f"No run {run_id!r} exists.")


def test_a_stage_that_the_plan_does_not_have_exits_with_2_and_names_those_there_are(waiting: WorkflowRun) -> None:
    called = call("wfe_answer", str(waiting.pk), "another", "--data", YES)

    assert called.code == 2
    assert called.error == "Workflow 'purchase' has no stage 'another'. Its stages: 'weigh', 'approve', 'buy'."
