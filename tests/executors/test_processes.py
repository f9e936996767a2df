"""Bodies in child processes that are killed, die, hang, print and are used again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.executors.bodies import WORKFLOWS
from tests.executors.conftest import Start
from tests.executors.running import error_of, value_of
from tests.faults.processes import ROOT
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import answer_stage, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Failed, Result
from workflow_engine.executors.held import Held, Lease
from workflow_engine.executors.processes import ProcessExecutor
from workflow_engine.executors.wire import started_as_json
from workflow_engine.models import StageMemo, StageRun, WorkflowLog

pytestmark = pytest.mark.django_db(transaction=True)


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def pids_in(path: Path, ended: Sequence[Result] = ()) -> list[int]:
    """Return the numbers that the body has written, waiting for them. It has not ``ended``."""
    until(lambda: ended or (path.exists() and path.read_text().endswith("\n")), "the body has begun")
    assert not ended
    return [int(text) for text in path.read_text().split()]


@contextmanager
def running(executor: ProcessExecutor, held: Held) -> Iterator[list[Result]]:
    """Run in another thread meanwhile; the list has the result afterwards."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(executor.run(held)))
    thread.start()
    try:
        yield results
    finally:
        thread.join(30)
        assert not thread.is_alive()


def pid_of(result: Result) -> int:
    value: Any = value_of(result)
    return int(value["pid"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("breaks-memory", "the process that ran the body was killed by SIGSEGV"),
        ("leaves", "the process that ran the body exited with code 3"),
    ],
)
def test_a_body_that_ends_its_process_fails_and_is_retried(
    name: str, message: str, processes: ProcessExecutor, start: Start
) -> None:
    result = processes.run(Held(start(name)))

    assert error_of(result) == ("PROCESS_DIED", "ProcessDied", message)
    assert isinstance(result, Failed)
    assert result.retry_in == timedelta(seconds=7)
    assert "workflow_engine/" not in result.error.traceback


def test_a_death_counts_as_an_attempt_and_the_next_one_may_succeed(processes: ProcessExecutor, start: Start) -> None:
    first = start("leaves-at-the-first-attempt")

    results = [
        processes.run(Held(first)),
        processes.run(Held(replace(first, attempt=2, failures=1))),
        processes.run(Held(replace(first, failures=2))),
    ]

    assert value_of(results[1]) == 2
    assert [item.retry_in for item in results if isinstance(item, Failed)] == [timedelta(seconds=7), None]


def test_what_a_body_said_before_it_was_killed_is_kept(
    processes: ProcessExecutor, start: Start, tmp_path: Path
) -> None:
    with running(processes, Held(start("is-killed", go=str(tmp_path / "go")))) as results:
        until(lambda: WorkflowLog.objects.filter(message="just before").exists(), "the line is written")
        (tmp_path / "go").touch()

    assert error_of(results[0])[2] == "the process that ran the body was killed by SIGKILL (was memory short?)"


@pytest.mark.parametrize("name", ["sleeps", "spins"])
def test_a_body_is_killed_at_its_deadline(name: str, processes: ProcessExecutor, start: Start) -> None:
    held = Held(start(name))

    result = processes.run(held)

    assert error_of(result) == ("TIMEOUT", "TimeoutError", "the body took longer than its timeout of 0:00:00.500000")
    assert isinstance(result, Failed)
    assert result.retry_in == timedelta(seconds=7)
    assert held.timed_out


def test_programs_that_a_body_has_started_die_with_it(processes: ProcessExecutor, start: Start, tmp_path: Path) -> None:
    result = processes.run(Held(start("leaves-a-program", pids=str(tmp_path / "pids"))))

    assert error_of(result)[0] == "TIMEOUT"
    child, program = pids_in(tmp_path / "pids")
    until(lambda: not is_alive(child) and not is_alive(program), "both have ended")


@pytest.mark.parametrize("why", ["token", "lease"])
def test_the_child_of_a_lost_attempt_is_killed(
    why: str, processes: ProcessExecutor, start: Start, tmp_path: Path
) -> None:
    lease = Lease(30, 10)
    held = Held(start("waits", pids=str(tmp_path / "pids")), lease)
    with running(processes, held) as results:
        (child,) = pids_in(tmp_path / "pids", results)
        if why == "token":
            held.lost.set()
        else:
            lease.renewed(sent_at=-1e9)

    assert error_of(results[0])[1] == "RunCancelledError"
    assert isinstance(results[0], Failed)
    assert results[0].retry_in is None
    assert not is_alive(child)


def test_a_child_dies_with_its_parent(
    children_see_the_test_database: pytest.MonkeyPatch, start: Start, tmp_path: Path
) -> None:
    started = start("waits", pids=str(tmp_path / "pids"))
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.executors.parent", json.dumps(started_as_json(started))], cwd=ROOT
    )
    try:
        (child,) = pids_in(tmp_path / "pids")
        assert is_alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(30)

    until(lambda: not is_alive(child), "the child has ended")


def test_a_child_is_used_again_and_replaced_after_so_many_bodies(
    children_see_the_test_database: pytest.MonkeyPatch, start: Start
) -> None:
    executor = ProcessExecutor(get_kernel().ports, bodies_per_child=2)
    started = start("tells-its-process")
    try:
        pids = [pid_of(executor.run(Held(started))) for _ in range(3)]
    finally:
        executor.stop()

    assert pids[0] == pids[1] != pids[2]
    assert os.getpid() not in pids
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_outlives_the_thread_that_asked_for_it(processes: ProcessExecutor, start: Start) -> None:
    started = start("tells-its-process")
    results: list[Result] = []
    for _ in range(2):
        with running(processes, Held(started)) as result:
            pass
        results += result

    assert pid_of(results[0]) == pid_of(results[1])


def test_a_warm_child_that_died_meanwhile_costs_no_attempt(processes: ProcessExecutor, start: Start) -> None:
    started = start("tells-its-process")
    pid = pid_of(processes.run(Held(started)))
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid), "the child is dead")

    assert pid_of(processes.run(Held(started))) != pid


def test_a_body_finds_the_environment_of_the_worker_and_the_main_thread(
    processes: ProcessExecutor, start: Start
) -> None:
    value: Any = value_of(processes.run(Held(start("tells-its-process"))))

    assert value["pythonpath"] == os.environ.get("PYTHONPATH")
    assert value["main"]


def test_what_a_body_prints_disturbs_nothing(processes: ProcessExecutor, start: Start) -> None:
    assert value_of(processes.run(Held(start("prints")))) == "printed"


def test_a_child_does_not_end_when_it_is_asked_to(processes: ProcessExecutor, start: Start) -> None:
    assert value_of(processes.run(Held(start("is-asked-to-end")))) == "still here"


def test_log_lines_and_progress_are_seen_while_the_body_runs(
    processes: ProcessExecutor, start: Start, tmp_path: Path
) -> None:
    with running(processes, Held(start("shows-itself", go=str(tmp_path / "go")))) as results:
        until(lambda: WorkflowLog.objects.filter(message="while it runs").exists(), "the line is seen")
        until(lambda: StageRun.objects.get().progress, "the progress is seen")
        (tmp_path / "go").touch()

    assert value_of(results[0]) == "seen"


def test_a_project_that_cannot_be_loaded_is_named_in_the_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.no_such_settings")
    executor = ProcessExecutor(get_kernel().ports)

    result = executor.run(Held(start("tells-its-process")))

    executor.stop()
    assert error_of(result)[0] == "PROCESS_DIED"
    assert "ModuleNotFoundError: No module named 'tests.no_such_settings'" in error_of(result)[2]


def test_an_executor_that_was_stopped_starts_nothing(
    children_see_the_test_database: pytest.MonkeyPatch, start: Start, tmp_path: Path
) -> None:
    executor = ProcessExecutor(get_kernel().ports)
    with running(executor, Held(start("waits", pids=str(tmp_path / "pids")))) as results:
        (child,) = pids_in(tmp_path / "pids", results)
        executor.stop()

    assert not is_alive(child)
    assert error_of(results[0])[0] == "PROCESS_DIED"


def test_a_body_in_a_process_of_its_own_waits_for_all_there_is_and_so_is_its_check_made_in_one(
    children_see_the_test_database: pytest.MonkeyPatch, known: Any, tmp_path: Path
) -> None:
    known(WORKFLOWS["waits-in-its-process"])
    with working(threads=1):
        run = create_run("waits-in-its-process", {"marker": str(tmp_path / "marker")})
        until(lambda: StageRun.objects.filter(wait_kind="answer", status="SUSPENDED").exists(), "it asks")
        answer_stage(run, "waits-in-its-process", 42)
        until(lambda: status_of(run) == "COMPLETED", "the check finds it done")

    run.refresh_from_db()
    first, answer, last = run.get_output()
    assert answer == 42
    assert os.getpid() not in (first, last, int((tmp_path / "marker").read_text()))
    assert dict(StageMemo.objects.values_list("kind", "name")) == {"once": "pid", "timer": "nap", "answer": "question"}
    check_all()
