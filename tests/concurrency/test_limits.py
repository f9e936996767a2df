"""Several workers and callers at the same moment: never one run too many, and none is left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.invariants import check_all
from tests.limits.overlap import most_at_once
from tests.limits.workflows import Order, by_tenant
from workflow_engine import NewRun, cancel_run, create_run, create_runs, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import DatabaseConflict
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import DeliverNotices, GivePlaces
from workflow_engine.models import RunNotice, RunPlace, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
TENANTS = ("a", "b", "c")


def test_workers_and_creators_at_once_never_exceed_a_limit(known: Any) -> None:
    workflow = known(by_tenant(3))

    def create(count: int) -> None:
        for number in range(count):
            create_run(workflow, Order(tenant=TENANTS[number % 3], number=number, fails=number % 7 == 0))

    def work() -> None:
        Worker(get_kernel(), WorkerOptions(threads=4, burst=True)).run()

    together([lambda: create(40), lambda: create(40)])
    together([work, work, lambda: create(40)])
    # What was created last.
    work()

    assert most_at_once() == dict.fromkeys(TENANTS, 3)
    assert set(WorkflowRun.objects.values_list("status", flat=True)) == {"COMPLETED", "FAILED"}
    assert not RunPlace.objects.exclude(status="FREE").exists()
    assert not RunNotice.objects.exists()
    assert check_all() == 120


def test_all_who_give_places_at_once_give_no_more_than_there_are(known: Any) -> None:
    workflow = known(by_tenant(5))
    create_runs([NewRun(workflow, Order(tenant=tenant)) for tenant in TENANTS for _ in range(40)])
    kernel = get_kernel()

    together([lambda: kernel.dispatch(DeliverNotices()), lambda: kernel.dispatch(GivePlaces())] * 4)
    # Who found a limit held has left it to the holder, and its notices for another look.
    kernel.dispatch(DeliverNotices())

    held = RunPlace.objects.held().values_list("key", flat=True)
    assert sorted(held) == [tenant for tenant in TENANTS for _ in range(5)]
    assert not RunNotice.objects.exists()


def test_reruns_that_race_with_ends_are_counted(known: Any) -> None:
    workflow = known(by_tenant(2))
    kernel = get_kernel()
    runs = [create_run(workflow, Order(tenant="a")) for _ in range(12)]
    for run in runs:
        cancel_run(run)
    kernel.dispatch(DeliverNotices())

    def rerun(mine: list[WorkflowRun]) -> None:
        for run in mine:
            for _ in range(20):
                try:
                    rerun_from(run, "load")
                    break
                except DatabaseConflict:
                    continue

    def look() -> None:
        for _ in range(30):
            kernel.dispatch(DeliverNotices())
            held = RunPlace.objects.held().filter(run__status__in=("PENDING", "RUNNING")).count()
            assert held <= 2
            for place in RunPlace.objects.held():
                cancel_run(place.run_id)

    together([lambda: rerun(runs[:6]), lambda: rerun(runs[6:]), look, look])
    Worker(kernel, WorkerOptions(threads=4, burst=True)).run()

    assert set(WorkflowRun.objects.values_list("status", flat=True)) <= {"COMPLETED", "CANCELLED"}
    assert not RunPlace.objects.exclude(status="FREE").exists()
    check_all()
