from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.management.calling import call
from tests.workflows import Broken, Number, chain, failing
from workflow_engine import create_run
from workflow_engine.definitions import Retry, StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, WorkerFacts
from workflow_engine.management import overview
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
Know = Callable[..., Any]


def beat(kernel: Kernel, name: str = "box-1") -> None:
    facts = WorkerFacts(id=uuid.uuid4(), name=name, host="box", pid=1, version="1", slots=8)
    kernel.dispatch(Beat(worker=facts, running={}))


def test_the_overview_counts_runs_and_lists_the_latest_first(known: Know, host: InlineHost) -> None:
    known(chain(1), failing())
    done, failed = create_run("chain", {"value": 1}), create_run("failing", {"value": 1})
    host.drain()
    waiting = create_run("chain", {"value": 1})

    called = call("wfe_status")

    assert called.code == 0
    assert called.lines[0] == "Runs: 1 PENDING, 1 COMPLETED, 1 FAILED"
    assert [line.split()[0] for line in called.lines[-3:]] == [str(run.pk) for run in (waiting, failed, done)]


def test_the_overview_says_that_nobody_takes_what_waits(known: Know, kernel: Kernel, clock: FakeClock) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    clock.advance(timedelta(minutes=2))

    called = call("wfe_status")

    assert "Workers: none alive" in called.lines
    assert f"Oldest waiting: {run.pk} (chain), due for 2 min" in called.lines
    assert "Nobody takes it. Start a worker: manage.py wfe_worker" in called.lines


def test_the_overview_shows_workers_that_are_alive(kernel: Kernel, clock: FakeClock) -> None:
    beat(kernel, "box-1")
    clock.advance(timedelta(hours=1))
    beat(kernel, "box-2")

    called = call("wfe_status")

    assert "  box-2: 0 running, 8 slots, last beat 0 s ago" in called.lines
    assert "box-1" not in called.out


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(db: None) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(SystemExit, match="141"):
        call("wfe_status", out=Closed())


def test_the_overview_can_be_narrowed_and_is_json_too(known: Know, host: InlineHost) -> None:
    known(chain(1), failing())
    for name in ("chain", "failing", "chain", "chain"):
        create_run(name, {"value": 1})
    host.drain()

    called = call("wfe_status", "--workflow", "chain", "--status", "completed", "--limit", "2", "--json")

    assert called.json["counts"] == {"PENDING": 0, "RUNNING": 0, "COMPLETED": 3, "FAILED": 0, "CANCELLED": 0}
    assert [run["workflow_id"] for run in called.json["latest"]] == ["chain", "chain"]


def test_of_very_many_runs_the_newest_are_counted_and_all_open_ones(
    known: Know, host: InlineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_COUNTED", 2)
    known(chain(1), failing())
    create_run("failing", {"value": 1})
    host.drain()
    old = create_run("failing", {"value": 1})
    for _ in range(2):
        host.drain(create_run("chain", {"value": 1}).pk)

    called = call("wfe_status")

    assert called.lines[0] == "Runs: 1 PENDING, 2 COMPLETED (finished ones: among the newest 2)"
    assert str(old.pk) in called.out


def test_a_run_is_shown_with_its_stages_log_and_files(known: Know, host: InlineHost) -> None:
    @stage("files")
    def files(ctx: StageContext[Number]) -> Number:
        ctx.log.info("Reading", path="a.txt", token="hunter2")
        ctx.artifact("a.txt", "hello")
        return ctx.input

    @stage("later")
    def later(ctx: StageContext[Number]) -> Number:
        return ctx.input

    known(define_workflow("documents", input=Number).pipe(files).pipe(later).build())
    run = create_run("documents", {"value": 1}, actor="ada")
    host.execute(host.take()[0])

    called = call("wfe_status", str(run.pk))

    assert called.code == 0
    assert {f"run         {run.pk}", "status      RUNNING"} <= set(called.lines)
    assert any(line.startswith("created") and line.endswith("by ada") for line in called.lines)
    assert [line.split()[:2] for line in called.lines if line.startswith(("files", "later"))] == [
        ["files", "COMPLETED"],
        ["later", "RUNNING"],
    ]
    assert 'files  Reading  path="a.txt" token="••••••"' in called.out
    assert "a.txt  5 B   runs/" in called.out


def test_a_run_that_waits_for_a_retry_says_until_when_and_why(known: Know, host: InlineHost) -> None:
    @stage("flaky", retry=Retry(initial=timedelta(minutes=5), jitter=0))
    def flaky(ctx: StageContext[Number]) -> Number:
        raise Broken("no luck")

    known(define_workflow("flaky", input=Number).pipe(flaky).build())
    run = create_run("flaky", {"value": 1})
    host.drain()

    called = call("wfe_status", str(run.pk))

    assert called.code == 0
    assert "Last error, in stage flaky: Broken: no luck" in called.lines
    assert any("PENDING" in line and "retries at" in line for line in called.lines)


def test_a_failed_run_exits_with_1(known: Know, host: InlineHost) -> None:
    known(failing())
    run = create_run("failing", {"value": 1})
    host.drain()

    called = call("wfe_status", str(run.pk))

    assert called.code == 1
    assert "Error in stage fails: Broken: attempt 1" in called.lines


def test_a_run_is_json_too(known: Know, host: InlineHost) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1}, metadata={"order": 7})

    called = call("wfe_status", str(run.pk), "--json")

    assert (called.json["run_id"], called.json["metadata"]) == (str(run.pk), {"order": 7})
    assert [(item["stage_id"], item["status"]) for item in called.json["stages"]] == [("add-1", None), ("add-2", None)]


@pytest.mark.parametrize("run_id", ["nonsense", "01890000-0000-7000-8000-000000000000"])
def test_a_run_that_does_not_exist_exits_with_3(kernel: Kernel, run_id: str) -> None:
    called = call("wfe_status", run_id, "--json")

    assert called.code == 3
    assert called.json["error"]["code"] == "RUN_NOT_FOUND"
