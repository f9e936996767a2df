from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.management.calling import call
from tests.reruns import Journey, fresh
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.django_db


@pytest.fixture
def journey(known: Any, kernel: Any) -> Journey:
    journey = Journey()
    known(journey.workflow)
    return journey


@pytest.fixture
def run(journey: Journey, host: InlineHost) -> WorkflowRun:
    """Return a run that FAILED in ``right``."""
    journey.broken = {"right"}
    run = create_run("journey", {"value": 1})
    host.drain()
    journey.broken.clear()
    return run


def test_a_run_goes_on_from_the_stage(run: WorkflowRun, host: InlineHost) -> None:
    called = call("wfe_rerun", str(run.pk), "right")
    host.drain()

    assert (called.code, called.lines) == (0, [f"Run {run.pk} goes on from right (generation 1)."])
    assert fresh(run).status == "COMPLETED"
    assert run.events.get(type="run.rerun").payload["actor"]


def test_a_preview_lists_the_stages_and_changes_nothing(run: WorkflowRun) -> None:
    called = call("wfe_rerun", str(run.pk), "right", "--preview")

    assert called.lines == [
        f"A rerun of run {run.pk} from right would begin generation 1.",
        "",
        "group  stage  status",
        "1      first  COMPLETED    kept",
        "2      left   COMPLETED    runs again",
        "2      right  FAILED       runs again",
        "3      last   NOT STARTED  runs again",
    ]
    assert (fresh(run).status, fresh(run).generation) == ("FAILED", 0)


def test_a_preview_for_programs(run: WorkflowRun) -> None:
    called = call("wfe_rerun", str(run.pk), "left", "--preview", "--json")

    assert called.json == {
        "run_id": str(run.pk),
        "stage_id": "left",
        "generation": 1,
        "kept": [{"stage_id": "first", "group": 1, "status": "COMPLETED"}],
        "again": [
            {"stage_id": "left", "group": 2, "status": "COMPLETED"},
            {"stage_id": "right", "group": 2, "status": "FAILED"},
            {"stage_id": "last", "group": 3, "status": None},
        ],
        "refused": ["last"],
        "only_failed_items": False,
        "items_again": None,
    }


def test_config_may_lie_in_a_file(run: WorkflowRun, host: InlineHost, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"last": {"amount": 10}}')

    called = call("wfe_rerun", str(run.pk), "left", "--config", f"@{tmp_path / 'config.json'}", "--json")
    host.drain()

    assert called.json == {
        "run_id": str(run.pk),
        "generation": 1,
        "superseded": ["left", "right"],
        "replayed": False,
    }
    assert fresh(run).get_output() == {"value": 16}


def test_the_same_key_does_nothing_more(run: WorkflowRun, host: InlineHost) -> None:
    call("wfe_rerun", str(run.pk), "left", "--idempotency-key", "once")
    host.drain()

    called = call("wfe_rerun", str(run.pk), "left", "--idempotency-key", "once")

    assert called.lines == [f"Run {run.pk} was rerun before, with the same key (generation 1)."]
    assert fresh(run).generation == 1


@pytest.mark.parametrize("preview", [(), ("--preview",)])
def test_what_is_refused_has_an_exit_code_of_its_own(run: WorkflowRun, preview: tuple[str, ...]) -> None:
    calls = {
        "forbidden": call("wfe_rerun", str(run.pk), "last", "--json", *preview),
        "stage": call("wfe_rerun", str(run.pk), "middle", "--json", *preview),
        "config": call("wfe_rerun", str(run.pk), "left", "--config", '{"left": {"size": 1}}', "--json", *preview),
        "text": call("wfe_rerun", str(run.pk), "left", "--config", "{", *preview),
        "run": call("wfe_rerun", "nonsense", "left", *preview),
    }

    codes = {name: called.code for name, called in calls.items()}
    assert codes == {"forbidden": 1, "stage": 2, "config": 2, "text": 2, "run": 3}
    assert calls["forbidden"].json["error"]["code"] == "INVALID_TRANSITION"
    assert calls["stage"].json["error"]["code"] == "STAGE_NOT_FOUND"
    assert calls["config"].json["error"]["fields"][0]["path"] == "left.size"
    assert fresh(run).generation == 0
