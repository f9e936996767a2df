"""The doctor finds what was put wrong, and nothing in a healthy database."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.janitors import begin, set_stages
from tests.workflows import chain, failing, fan
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions import registry
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.kernel.doctor import Report, examine
from workflow_engine.models import OutboxEvent, RunData, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock
from workflow_engine.testing.clock import START

STAGES, RUNS = StageRun._meta.db_table, WorkflowRun._meta.db_table
LONG_AGO = START - timedelta(days=31)
Seed = Callable[[WorkflowRun], object]


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(chain(2), fan(2), failing())


@pytest.fixture
def healthy(kernel: Kernel, host: InlineHost) -> list[WorkflowRun]:
    """Return a run in every state in which one may be."""
    ended = [create_run("chain", {"value": 1}), create_run("fan", {"value": 1}), create_run("failing", {"value": 1})]
    host.drain()
    cancelled, begun, waiting = (create_run("fan", {"value": 1}) for _ in range(3))
    cancel_run(cancelled)
    begin(kernel, begun)
    return [*ended, cancelled, begun, waiting]


@contextmanager
def unconstrained() -> Iterator[None]:
    """Let rows break the constraints of their tables until the test ends."""
    off = {
        "sqlite": ["PRAGMA ignore_check_constraints = ON"],
        "mysql": ["SET check_constraint_checks = 0"],
        "postgresql": [
            "SET CONSTRAINTS ALL IMMEDIATE",
            *(
                f"ALTER TABLE {STAGES} DROP CONSTRAINT wfe_stage_{name}"
                for name in ("status_known", "finished_has_time")
            ),
            *(f"ALTER TABLE {STAGES} DROP CONSTRAINT wfe_stage_{name}" for name in ("running_has_worker",)),
            *(f"ALTER TABLE {RUNS} DROP CONSTRAINT wfe_run_{name}" for name in ("status_known", "finished_has_time")),
        ],
    }
    on = {"sqlite": ["PRAGMA ignore_check_constraints = OFF"], "mysql": ["SET check_constraint_checks = 1"]}
    with connection.cursor() as cursor:
        for statement in off[connection.vendor]:
            cursor.execute(statement)
        yield
        for statement in on.get(connection.vendor, []):
            cursor.execute(statement)


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_a_healthy_database_gives_nothing_to_say(kernel: Kernel, healthy: list[WorkflowRun]) -> None:
    report = examine(kernel.ports)

    assert (report.findings, report.cut, report.runs_seen, report.all_runs_seen) == ((), (), len(healthy), True)


def test_an_empty_database_gives_nothing_to_say(kernel: Kernel) -> None:
    assert examine(kernel.ports).findings == ()


def run_status(run: WorkflowRun) -> None:
    with unconstrained():
        WorkflowRun.objects.filter(pk=run.pk).update(status="BROKEN")


def stage_status(run: WorkflowRun) -> None:
    with unconstrained():
        set_stages(run, "BROKEN")


def no_worker(run: WorkflowRun) -> None:
    with unconstrained():
        set_stages(run, "RUNNING")


def no_end(run: WorkflowRun) -> None:
    with unconstrained():
        set_stages(run, "FAILED")


def end_of_open_run(run: WorkflowRun) -> None:
    with unconstrained():
        WorkflowRun.objects.filter(pk=run.pk).update(finished_at=START)


def skipped_before(run: WorkflowRun) -> None:
    set_stages(run, "SKIPPED", finished_at=START)
    WorkflowRun.objects.filter(pk=run.pk).update(status="PENDING")


def suspend(run: WorkflowRun, **columns: object) -> None:
    set_stages(run, "SUSPENDED", suspended_at=LONG_AGO, **columns)


OF_BEGUN_RUNS: dict[str, tuple[str, str, Seed]] = {
    "a status of a run that does not exist": ("status.unknown", "violation", run_status),
    "a status of a stage that does not exist": ("status.unknown", "violation", stage_status),
    "a running stage without worker": ("status.impossible", "violation", no_worker),
    "a running run that never started": (
        "status.impossible",
        "violation",
        lambda run: WorkflowRun.objects.filter(pk=run.pk).update(started_at=None),
    ),
    "a stage of a run that has not begun": (
        "status.impossible",
        "violation",
        skipped_before,
    ),
    "an ended stage without a time": ("time.missing", "violation", no_end),
    "an open run with a time of its end": ("time.missing", "violation", end_of_open_run),
    "a stage ahead of its run": ("generation.ahead", "violation", lambda run: run.stage_runs.update(generation=1)),
    "an open stage of an old generation": (
        "generation.open_but_old",
        "violation",
        lambda run: WorkflowRun.objects.filter(pk=run.pk).update(generation=1),
    ),
    "an open stage that was superseded": (
        "generation.open_but_old",
        "violation",
        lambda run: run.stage_runs.update(superseded_at=START),
    ),
    "a plan that is none": ("plan.broken", "violation", lambda run: RunData.objects.filter(run=run).update(plan={})),
    "a run without its plan": ("plan.broken", "violation", lambda run: RunData.objects.filter(run=run).delete()),
    "a run that nothing moves": (
        "run.stuck",
        "violation",
        lambda run: set_stages(run, "CANCELLED", finished_at=START),
    ),
    "a stage of a lost worker": (
        "lease.over",
        "warning",
        lambda run: set_stages(run, "RUNNING", worker=uuid.uuid4(), token=1),
    ),
    "a stage that has overslept": (
        "wait.overslept",
        "warning",
        lambda run: suspend(run, wait_kind="timer", wake_at=START - timedelta(minutes=11)),
    ),
    "a run whose deadline is long over": (
        "run.over_deadline",
        "warning",
        lambda run: WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=START - timedelta(minutes=11)),
    ),
    "a question that nobody answers": (
        "wait.forgotten",
        "warning",
        lambda run: suspend(run, wait_kind="answer", wait_name="manager"),
    ),
    "a stage that nobody knows": (
        "definition.unknown",
        "warning",
        lambda run: run.stage_runs.update(unknown_since=START),
    ),
    "a run whose events have a gap": (
        "events.gap",
        "violation",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=2).update(sequence=3),
    ),
    "a run whose first event is gone": (
        "events.gap",
        "violation",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=1).delete(),
    ),
    "a run without any event": ("events.gap", "violation", lambda run: run.events.all().delete()),
    "a run that counts more events than there are": (
        "events.gap",
        "violation",
        lambda run: WorkflowRun.objects.filter(pk=run.pk).update(event_seq=9),
    ),
    "an open run with an event of its end": (
        "events.no_end",
        "violation",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=2).update(type="run.failed"),
    ),
    "an output that is no envelope": (
        "row.unreadable",
        "violation",
        lambda run: run.stage_runs.update(output={"value": 1}),
    ),
    "an output whose text is no JSON": (
        "row.unreadable",
        "violation",
        lambda run: run.stage_runs.update(output={"json": "{"}),
    ),
}


@pytest.mark.parametrize("case", OF_BEGUN_RUNS)
def test_what_is_wrong_with_a_run_that_goes_on_is_found(kernel: Kernel, healthy: list[WorkflowRun], case: str) -> None:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    code, severity, seed = OF_BEGUN_RUNS[case]
    seed(run)

    report = examine(kernel.ports)

    found = [finding for finding in report.findings if finding.code == code]
    assert found, codes(report)
    assert {finding.severity for finding in found} == {severity}
    assert {finding.run_id for finding in report.findings} == {run.pk}
    assert all(finding.text.endswith((".", ")")) and finding.fix for finding in found if code != "row.unreadable")


OF_ENDED_RUNS: dict[str, tuple[str, Seed]] = {
    "a live stage": (
        "stage.open_in_ended_run",
        lambda run: set_stages(run, "PENDING", "add-2", finished_at=None),
    ),
    "two events of its end": (
        "events.two_ends",
        lambda run: OutboxEvent.objects.filter(run=run, sequence=3).update(type="run.failed"),
    ),
    "no event of its end": (
        "events.no_end",
        lambda run: OutboxEvent.objects.filter(run=run, type="run.completed").update(type="x"),
    ),
    "a stage that is not done": ("run.incomplete", lambda run: set_stages(run, "CANCELLED", "add-2")),
    "a stage that is gone": ("run.incomplete", lambda run: run.stage_runs.filter(stage="add-1").delete()),
}


@pytest.mark.parametrize("case", OF_ENDED_RUNS)
def test_what_is_wrong_with_a_run_that_has_ended_is_found(
    kernel: Kernel, host: InlineHost, healthy: list[WorkflowRun], case: str
) -> None:
    run = create_run("chain", {"value": 1})
    host.drain(run.pk)
    code, seed = OF_ENDED_RUNS[case]
    seed(run)

    report = examine(kernel.ports)

    assert code in codes(report)
    assert {(finding.run_id, finding.severity) for finding in report.findings} == {(run.pk, "violation")}


def test_events_of_ended_runs_may_have_been_deleted(kernel: Kernel, host: InlineHost) -> None:
    some, none = create_run("chain", {"value": 1}), create_run("chain", {"value": 1})
    host.drain()
    OutboxEvent.objects.filter(run=none).delete()
    OutboxEvent.objects.filter(run=some, sequence__lt=3).delete()

    assert examine(kernel.ports).findings == ()


def test_json_that_python_cannot_read_is_found_and_hides_nothing(kernel: Kernel, healthy: list[WorkflowRun]) -> None:
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    table = RunData._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT run_id FROM {table}")
        # As the database has it: a uuid or its digits.
        stored = next(key for (key,) in cursor.fetchall() if uuid.UUID(str(key)) == run.pk)
        cursor.execute(f"UPDATE {table} SET metadata = %s WHERE run_id = %s", ["9" * 5_000, stored])
    RunData.objects.filter(run=healthy[0]).update(plan={})

    report = examine(kernel.ports)

    assert {(finding.code, finding.run_id) for finding in report.findings} == {
        ("row.unreadable", run.pk),
        ("plan.broken", healthy[0].pk),
    }


def test_a_run_that_nobody_knows_and_one_whose_code_is_gone_are_found(
    kernel: Kernel, clock: FakeClock, healthy: list[WorkflowRun]
) -> None:
    run = create_run("chain", {"value": 1})
    WorkflowRun.objects.filter(pk=run.pk).update(unknown_since=clock.now())
    del registry._workflows["chain"]

    report = examine(kernel.ports)

    assert codes(report) == {"definition.unknown", "plan.drift"}
    assert {finding.run_id for finding in report.findings} == {run.pk}


def test_findings_and_runs_are_bounded_and_what_was_cut_is_told(kernel: Kernel, healthy: list[WorkflowRun]) -> None:
    for run in [create_run("chain", {"value": 1}) for _ in range(4)]:
        begin(kernel, run)
        set_stages(run, "CANCELLED", finished_at=START)
        WorkflowRun.objects.filter(pk=run.pk).update(event_seq=9)

    report = examine(kernel.ports, limit=2, most_runs=3)

    assert [finding.code for finding in report.findings] == ["run.stuck"] * 2 + ["events.gap"] * 2
    assert (set(report.cut), report.all_runs_seen) == ({"run.stuck", "events.gap"}, False)
    # So many that are open, and so many of the newest, which may be the same.
    assert 3 <= report.runs_seen <= 6


def test_runs_are_read_in_pages_the_newest_first(
    kernel: Kernel, healthy: list[WorkflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflow_engine.kernel.doctor import runs

    monkeypatch.setattr(runs, "PAGE", 2)
    WorkflowRun.objects.filter(pk=healthy[0].pk).update(event_seq=99)

    found = examine(kernel.ports)

    assert [finding.run_id for finding in found.findings] == [healthy[0].pk]
    assert (found.runs_seen, found.all_runs_seen) == (len(healthy), True)
    assert examine(kernel.ports, most_runs=3).findings == ()


def test_a_stage_of_a_living_worker_is_healthy(kernel: Kernel) -> None:
    from tests.janitors import worker
    from workflow_engine.kernel.commands import Beat

    facts = worker({"chain": ["add-1", "add-2"]})
    kernel.dispatch(Beat(worker=facts, running={}))
    create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=facts.id, slots=1)))

    assert examine(kernel.ports).findings == ()
