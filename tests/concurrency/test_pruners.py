"""Several processes delete what is old at the same moment: nothing is counted twice, nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.bulk.operations import carry_out, make_runs
from tests.concurrency.threads import together
from tests.families import Family
from tests.invariants import check_all
from tests.workflows import chain
from workflow_engine import StageContext, cancel_runs, create_run, define_workflow, rerun_from, run_and_wait, stage
from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import InvalidTransition, RunNotFound
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.ids import uuid7
from workflow_engine.kernel.commands import Prune
from workflow_engine.kernel.commands.beat import Beat, WorkerFacts
from workflow_engine.models import (
    BulkOperation,
    BulkTarget,
    IdempotencyKey,
    OutboxEvent,
    WorkerHeartbeat,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.models.base import read_clock
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)
COUNT, PRUNERS = 40, 4
DAY = timedelta(days=1)
TABLES = {
    "runs": WorkflowRun,
    "events": OutboxEvent,
    "logs": WorkflowLog,
    "keys": IdempotencyKey,
    "workers": WorkerHeartbeat,
    "bulk": BulkOperation,
}


@stage("notes")
def notes(ctx: StageContext[int]) -> int:
    ctx.log.info("noted")
    return ctx.input


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    known(chain(2), define_workflow("notes", input=int).pipe(notes).build(), *Family().workflows)


@pytest.fixture
def old() -> None:
    """Leave rows in every table, all of them two days old."""
    kernel, now = get_kernel(), read_clock("default") - 2 * DAY
    for number in range(COUNT):
        create_run("notes", number, idempotency_key=str(number))
        facts = WorkerFacts(id=uuid7(), name="w", host="h", pid=1, version="1", slots=1)
        kernel.dispatch(Beat(worker=facts, running={}))
    process_available_jobs(max_jobs=1000)
    for _ in range(5):
        cancel_runs(make_runs(3))
    carry_out(kernel)
    # What the helper's own worker has left is one more.
    WorkerHeartbeat.objects.update(lease_until=now)
    WorkflowRun.objects.update(finished_at=now)
    WorkflowLog.objects.update(created_at=now)
    BulkOperation.objects.update(finished_at=now)
    IdempotencyKey.objects.update(created_at=now - 8 * DAY)


def prune_all(what: str) -> int:
    """Delete page after page; return how many this caller has deleted."""
    command, deleted = Prune(what=what, older_than=DAY, max=7), 0
    while True:
        result = get_kernel().dispatch(command)
        assert (result.kept, result.refusal) == (0, "")
        deleted += result.deleted
        if result.place is None:
            return deleted
        command = replace(command, after=result.place)


@pytest.mark.parametrize("what", list(TABLES))
def test_pruners_share_the_work_and_count_each_row_once(old: None, what: str) -> None:
    if what == "keys":
        for run in WorkflowRun.objects.all():
            IdempotencyKey.objects.filter(run_id=run.pk).update(run_id=uuid7())
    before = TABLES[what]._default_manager.count()
    assert before > 0

    deleted = together([lambda: prune_all(what)] * PRUNERS)

    # One that somebody else was at is left to the next pass, if that has let it go.
    assert sum(deleted) + prune_all(what) == before
    assert not TABLES[what]._default_manager.exists()


def test_pruners_of_everything_get_along(old: None) -> None:
    kinds = list(TABLES)

    together([lambda order=order: [prune_all(what) for what in order] for order in (kinds, kinds[::-1], kinds)])  # type: ignore[misc]
    for what in kinds:
        prune_all(what)

    assert {what: model._default_manager.count() for what, model in TABLES.items()} == dict.fromkeys(kinds, 0)
    assert not BulkTarget.objects.exists()


def test_a_run_is_deleted_or_rerun_and_never_half_of_it() -> None:
    runs = make_runs(COUNT)
    process_available_jobs(max_jobs=1000)
    WorkflowRun.objects.update(finished_at=read_clock("default") - 2 * DAY)
    rerun: list[Any] = []

    def rerun_all() -> None:
        for run in reversed(runs):
            try:
                rerun.append(rerun_from(run, "add-2").pk)
            except (RunNotFound, InvalidTransition):
                continue

    deleted, _ = together([lambda: prune_all("runs"), rerun_all])

    assert deleted + len(rerun) == COUNT
    assert set(WorkflowRun.objects.values_list("pk", flat=True)) == set(rerun)
    process_available_jobs(max_jobs=1000)
    assert set(WorkflowRun.objects.values_list("status", flat=True)) <= {"COMPLETED"}
    check_all()


def test_families_are_deleted_by_several_without_a_trace() -> None:
    run_and_wait("parents", list(range(10)), timeout=60)
    WorkflowRun.objects.update(finished_at=read_clock("default") - 2 * DAY)
    count = WorkflowRun.objects.count()
    assert count == 11

    deleted = together([lambda: prune_all("runs")] * PRUNERS)

    assert sum(deleted) + prune_all("runs") == count
    assert not WorkflowRun.objects.exists()


def test_files_that_several_delete_at_once_are_gone_and_nothing_fails() -> None:
    blobs = get_kernel().ports.blobs
    folders = {str(uuid7()) for _ in range(COUNT)}
    for folder in folders:
        for name in ("a", "b/c"):
            blobs.put(f"runs/{folder}/{name}", b"x")
    later = create_test_kernel(clock=FakeClock(read_clock("default") + 2 * DAY), blobs=blobs)

    results = together([lambda: later.dispatch(Prune(what="blobs", older_than=DAY, max=1000))] * PRUNERS)

    assert [(result.kept, result.refusal) for result in results] == [(0, "")] * PRUNERS
    assert not folders & set(blobs.folders("runs"))
