"""``wfe_worker --processes`` and ``--max-rss-mb`` with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import ROOT, environment
from tests.faults.workflows import crashing, expected
from tests.hosts.supervised import workers
from tests.hosts.workflows import growing, holding
from tests.invariants import check_all
from tests.management.calling import call
from tests.waiting import until
from workflow_engine import create_run
from workflow_engine.definitions.registry import registry_override
from workflow_engine.models import StageAttempt, StageRun, WorkerHeartbeat, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
# A file that the body of ``holding`` waits for.
Gate = Path


@pytest.fixture
def start() -> Callable[..., WorkflowRun]:
    """Return a function that creates a run of a workflow that worker processes know."""

    def create(workflow: Any, value: Any) -> WorkflowRun:
        with registry_override(workflow):
            return create_run(workflow, value)

    return create


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return tmp_path / "gate"


def status(run: WorkflowRun) -> str:
    return WorkflowRun.objects.get(pk=run.pk).status


def until_running() -> None:
    until(lambda: StageRun.objects.filter(status="RUNNING").exists(), "a stage runs")


@pytest.mark.smoke
def test_children_start_and_one_that_is_killed_is_replaced() -> None:
    with workers("--processes", "2") as processes:
        processes.until_working(2)
        first, second = processes.said("child_started")

        os.kill(first["pid"], signal.SIGKILL)
        (exited,) = processes.until_said("child_exited")
        (again,) = processes.until_said("child_restarted")
        processes.until_said("started", 3)
        code = processes.stop()

    assert (first["name"], second["name"]) == ("box-1", "box-2")
    assert (exited["name"], exited["signal"], exited["code"], exited["again_in"]) == ("box-1", "SIGKILL", 137, 0.5)
    assert (again["name"], again["restarts"]) == ("box-1", 1)
    assert code == 0
    assert processes.said("supervisor_started")[0]["processes"] == 2
    assert processes.said("supervisor_stopped") == [{"event": "supervisor_stopped", "code": 0}]
    assert sorted(event["name"] for event in processes.said("started")) == ["box-1", "box-1", "box-2"]


@pytest.mark.parametrize("everybody", [False, True], ids=["the supervisor is told", "all processes are told"])
def test_a_signal_lets_every_child_finish_what_it_runs(
    start: Callable[..., WorkflowRun], gate: Gate, everybody: bool
) -> None:
    runs = [start(holding, str(gate)) for _ in range(4)]
    with workers("--processes", "2", "--grace", "60") as processes:
        until(lambda: StageRun.objects.filter(status="RUNNING").count() == 4, "all run")

        for pid in [processes.process.pid, *(processes.pids() if everybody else [])]:
            os.kill(pid, signal.SIGTERM)
        gate.touch()
        code = processes.wait()

    assert code == 0
    assert [status(run) for run in runs] == ["COMPLETED"] * 4
    assert StageAttempt.objects.count() == 4
    assert [event["code"] for event in processes.said("child_exited")] == [0, 0]
    check_all()


def test_a_second_signal_gives_back_what_runs(start: Callable[..., WorkflowRun], gate: Gate) -> None:
    start(holding, str(gate))
    with workers("--processes", "1", "--grace", "600") as processes:
        until_running()

        processes.process.send_signal(signal.SIGTERM)
        processes.until_said("stopping")
        code = processes.stop()

    row = StageRun.objects.get()
    assert code == 0
    assert (row.status, row.failures, row.crashes) == ("PENDING", 0, 0)
    check_all()


def test_children_of_a_killed_supervisor_drain_by_themselves(start: Callable[..., WorkflowRun], gate: Gate) -> None:
    run = start(holding, str(gate))
    with workers("--processes", "2", "--grace", "60") as processes:
        processes.until_working(2)
        until_running()

        processes.process.kill()
        until(lambda: WorkerHeartbeat.objects.exclude(stopped_at=None).exists(), "the idle one has ended")
        gate.touch()
        until(lambda: WorkerHeartbeat.objects.exclude(stopped_at=None).count() == 2, "both have ended")

    assert status(run) == "COMPLETED"
    assert StageAttempt.objects.count() == 1
    check_all()


def test_a_child_that_has_done_its_share_is_replaced(start: Callable[..., WorkflowRun]) -> None:
    run = start(crashing, "text")
    with workers("--processes", "1", "--max-jobs", "2") as processes:
        until(lambda: status(run) == "COMPLETED", "the run ends")
        code = processes.stop()

    assert code == 0
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == expected("text")
    assert {(event["code"], event["again_in"]) for event in processes.said("child_exited")} <= {(0, 0.0), (0, None)}
    assert len(processes.said("child_restarted")) >= 2
    assert sum(event["finished"] for event in processes.said("stopped")) == 6


def test_a_child_that_has_grown_too_large_is_replaced(start: Callable[..., WorkflowRun]) -> None:
    run = start(growing, 400)
    with workers("--processes", "1", "--max-rss-mb", "400") as processes:
        processes.until_said("child_restarted")
        processes.until_said("started", 2)
        code = processes.stop()

    assert (code, status(run)) == (0, "COMPLETED")
    assert processes.said("too_large")[0]["rss"] > processes.said("too_large")[0]["limit"] == 400 * 1024 * 1024
    assert processes.said("child_exited")[0]["code"] == 0


def test_a_worker_that_has_grown_too_large_ends_in_good_order(start: Callable[..., WorkflowRun]) -> None:
    run = start(growing, 400)
    with workers("--max-rss-mb", "400") as processes:
        code = processes.wait()

    assert (code, status(run)) == (0, "COMPLETED")
    assert len(processes.said("stopped")) == 1


def test_a_burst_ends_when_every_child_has(start: Callable[..., WorkflowRun]) -> None:
    runs = [start(crashing, "text") for _ in range(3)]
    with workers("--processes", "2", "--burst") as processes:
        code = processes.wait()

    assert code == 0
    assert [status(run) for run in runs] == ["COMPLETED"] * 3
    assert not processes.said("child_restarted")
    check_all()


def test_what_a_killed_child_ran_is_free_as_soon_as_the_next_one_has_started(
    start: Callable[..., WorkflowRun], gate: Gate
) -> None:
    run = start(holding, str(gate))
    with workers("--processes", "1", settings="tests.hosts.long_leases") as processes:
        until_running()
        (child,) = processes.pids()

        os.kill(child, signal.SIGKILL)
        until(lambda: StageAttempt.objects.filter(outcome="lost").exists(), "it was taken back")
        until(lambda: StageRun.objects.filter(status="RUNNING", attempt=2).exists(), "it runs again")
        gate.touch()
        until(lambda: status(run) == "COMPLETED", "the run ends")
        processes.stop()

    lost = StageAttempt.objects.get(outcome="lost")
    assert WorkerHeartbeat.objects.get(pk=lost.worker).has_died
    check_all()


def test_what_can_never_work_is_not_started_again() -> None:
    with workers("--processes", "2", "--max-rss-mb", "1") as processes:
        code = processes.wait()

    assert code == 2
    assert not processes.said("child_restarted")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_supervisor_holds_no_connection() -> None:
    with workers("--processes", "1") as processes:
        processes.until_working(1)
        folder = Path(f"/proc/{processes.process.pid}/fd")
        files = [link.readlink().as_posix() for link in folder.iterdir()]
        processes.stop()

    assert not [file for file in files if file.startswith("socket:") or "sqlite" in file]


def test_people_are_told_what_becomes_of_the_processes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", "wfe_worker", "--name=box", "--burst", "--threads=3", "--proc", "2"],
        env=environment(settings_module="tests.hosts.settings"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[:3] == ["Supervisor box", "  processes  2", "  slots      3"]
    assert lines[-1] == "Stopped."
    assert "box-2 stopped after 0 attempts." in lines
    assert any(line.startswith("box-1 started, process ") for line in lines)


def test_processes_are_refused_where_there_is_no_command_line() -> None:
    called = call("wfe_worker", "--processes", "2")

    assert called.code == 2
    assert "on a command line only" in called.error
