from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tests.management.calling import call
from tests.workflows import Number, chain
from workflow_engine import create_run
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.models import WorkerHeartbeat, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parents[2]
Know = Callable[..., Any]


def test_a_burst_runs_what_is_due_and_stops(known: Know) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})

    called = call("wfe_worker", "--burst", "--threads", "2", "--name", "box-1", "--queues", "workflows, other")

    run.refresh_from_db()
    assert (called.code, run.status) == (0, "COMPLETED")
    assert called.lines == [
        "Worker box-1",
        "  slots      2",
        "  queues     workflows, other",
        "  transport  database",
        "  workflows  chain",
        "Stopped after 2 attempts.",
    ]


def test_a_worker_without_workflows_says_so_and_works(known: Know) -> None:
    called = call("wfe_worker", "--burst")

    assert called.code == 0
    assert "  queues     all" in called.lines
    assert "  workflows  none: register() some" in called.out


def test_json_tells_start_and_stop(known: Know) -> None:
    known(chain(1))
    create_run("chain", {"value": 1})

    called = call("wfe_worker", "--burst", "--json", "--max-jobs", "1", "--no-orchestrator", "--grace", "1")

    started, stopped = called.jsons
    assert (started["event"], started["workflows"], started["queues"]) == ("started", ["chain"], None)
    assert (stopped["event"], stopped["finished"]) == ("stopped", 1)
    assert started["worker_id"] == stopped["worker_id"] == str(WorkerHeartbeat.objects.get().pk)


def test_queues_that_nobody_asked_for_are_left_alone(known: Know) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})

    call("wfe_worker", "--burst", "--queues", "other")

    assert not run.stage_runs.exclude(status="PENDING").exists()


def test_a_signal_lets_what_runs_finish_and_takes_no_more(known: Know) -> None:
    @stage("signals")
    def signals(ctx: StageContext[Number]) -> Number:
        os.kill(os.getpid(), signal.SIGTERM)
        return ctx.input

    known(define_workflow("signals", input=Number).pipe(signals).build())
    run = create_run("signals", {"value": 1})

    called = call("wfe_worker", "--grace", "20")

    assert called.code == 0
    assert "Stopping: what runs may finish within 20 s; a second signal hurries." in called.lines
    assert WorkflowRun.objects.get(pk=run.pk).stage_runs.get().status == "COMPLETED"


@pytest.mark.parametrize(
    "arguments", [["--threads", "0"], ["--grace", "nan"], ["--max-jobs", "many"], ["--queues", " , "]]
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    called = call("wfe_worker", *arguments)

    assert called.code != 0
    assert "must be" in called.error


@pytest.mark.smoke
def test_a_worker_process_drains_when_it_is_asked_to_and_exits_with_0() -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
        "WFE_TEST_BACKEND": settings.BACKEND,
        "WFE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
    }
    command = [sys.executable, "-m", "django", "wfe_worker", "--json"]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        started = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert started["event"] == "started"
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
