from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.families import Family
from tests.maps import Importer
from tests.part_way import one_step, reviews, until_items_ended
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.testing import FakeClock

Know = Callable[..., Any]
NO_WORKER = "No worker is running. Start one with: manage.py wfe_worker."


def reason(run: WorkflowRun, clock: FakeClock) -> str:
    return waiting_reason(WorkflowRun.objects.get(pk=run.pk), clock.now())


def test_a_map_tells_how_far_its_items_are(known: Know, host: InlineHost, clock: FakeClock, beat: Any) -> None:
    importer = Importer(max_parallel=4, on_item_error="collect")
    importer.bad = {1}
    run = create_run(known(importer.workflow), 1200)
    until_items_ended(host, run, 3)
    counted = "Stage import-line: 2 of 1,200 items are done, 1 failed, 4 are under way."

    assert reason(run, clock) == f"{counted} {NO_WORKER}"
    beat("importer")
    assert reason(run, clock) == f"{counted} A worker takes it in a moment: 2 of 2 places are free."


def test_a_map_whose_items_run_says_no_more_than_that(
    known: Know, host: InlineHost, clock: FakeClock, beat: Any
) -> None:
    importer = Importer(max_parallel=4)
    run = create_run(known(importer.workflow), 10)
    until_items_ended(host, run, 3)
    host.take()
    beat("importer", id=host.worker_id)

    assert reason(run, clock) == "Stage import-line: 3 of 10 items are done, 4 are under way."


def test_items_may_wait_for_answers(known: Know, host: InlineHost, clock: FakeClock) -> None:
    run = create_run(known(reviews()), ["a", "b"])
    host.drain()

    assert reason(run, clock) == (
        "Stage review: 0 of 2 items are done, 2 are under way. Stage review #0 waits for the answer 'look'."
    )


def test_a_stage_waits_for_its_child_run(known: Know, host: InlineHost, clock: FakeClock) -> None:
    family = Family()
    known(*family.workflows)
    run = create_run("parent", 1)
    one_step(host)
    child = WorkflowRun.objects.get(parent_run=run)
    words = f"Stage delegate waits for its child run {child.pk} of workflow child, which is"

    assert reason(run, clock) == f"{words} PENDING."
    one_step(host)
    assert reason(run, clock) == f"{words} RUNNING."
    WorkflowRun.objects.filter(pk=child.pk).delete()
    assert reason(run, clock) == "Stage delegate waits for its child run 'child'."


def test_an_item_waits_for_its_child_run(known: Know, host: InlineHost, clock: FakeClock) -> None:
    family = Family(max_parallel=2)
    known(*family.workflows)
    run = create_run("parents", [1, 2, 3])
    while WorkflowRun.objects.filter(parent_run=run).count() < 2:
        one_step(host)
    child = WorkflowRun.objects.filter(parent_run=run).earliest("pk")

    assert reason(run, clock) == (
        "Stage delegate: 0 of 3 items are done, 2 are under way. "
        f"Stage delegate #0 waits for its child run {child.pk} of workflow child, which is {child.status}."
    )


def test_the_reason_costs_the_same_whatever_the_number_of_items(
    known: Know, host: InlineHost, clock: FakeClock
) -> None:
    known(Importer(max_parallel=200).workflow)
    runs = [create_run("importer", count) for count in (3, 300)]
    for run in runs:
        until_items_ended(host, run, 1)

    counts = []
    for run in runs:
        with CaptureQueriesContext(connection) as queries:
            reason(run, clock)
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 6
