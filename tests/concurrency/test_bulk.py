"""Many orchestrators on one bulk operation, and what happens to its runs meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction

from tests.bulk.operations import carry_out, events, figures, make_runs, outcomes
from tests.concurrency.threads import together
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import NewRun, cancel_bulk, cancel_run, cancel_runs, create_runs, run_and_wait
from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.hosts.worker import Worker, WorkerOptions
from workflow_engine.kernel.commands import CarryOutBulk
from workflow_engine.models import BulkOperation, BulkTarget, IdempotencyKey, WorkflowRun
from workflow_engine.models.base import lock_rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    known(chain(2))


def test_orchestrators_share_the_work_and_change_each_run_once() -> None:
    runs = make_runs(120)
    operation = cancel_runs(runs)
    done: list[int] = []

    def orchestrate() -> None:
        kernel = get_kernel()
        while BulkOperation.objects.open().exists():
            done.append(kernel.dispatch(CarryOutBulk(max=10)).done)

    together([orchestrate] * 4)

    assert figures(operation) == ("COMPLETED", 120, 120, 0, 0)
    assert sum(done) == 120
    assert set(events("run.cancelled").values()) == {1}
    check_all()


def test_two_operations_and_single_cancels_of_the_same_runs_do_not_meet_in_a_deadlock() -> None:
    runs = make_runs(40)
    operations = [cancel_runs(runs), cancel_runs(list(reversed(runs)))]

    def orchestrate() -> None:
        carry_out(get_kernel(), 10)

    def cancel_each() -> None:
        for run in runs[::3]:
            cancel_run(run)

    together([orchestrate, orchestrate, cancel_each])

    assert all(figures(one)[0] == "COMPLETED" and one.done == 40 for one in operations)
    assert set(events("run.cancelled").values()) == {1}
    check_all()


def test_a_cancel_of_the_operation_counts_what_was_under_way() -> None:
    runs = make_runs(100)
    operation = cancel_runs(runs)
    begun = threading.Event()

    def orchestrate() -> None:
        kernel = get_kernel()
        while BulkOperation.objects.open().exists():
            kernel.dispatch(CarryOutBulk(max=5))
            begun.set()

    def cancel() -> bool:
        assert begun.wait(30)
        return cancel_bulk(operation)

    results = together([orchestrate, orchestrate, cancel])

    cancelled = WorkflowRun.objects.filter(status="CANCELLED").count()
    assert figures(operation)[1:] == (100, cancelled, 0, 0)
    assert results[2] is (operation.status == "CANCELLED")
    assert outcomes(operation).get("open", 0) == 0
    check_all()


@pytest.mark.postgresql
def test_a_run_that_somebody_holds_is_left_for_later_and_the_others_go_on() -> None:
    runs = make_runs(6)
    operation = cancel_runs(runs)
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert lock_rows(WorkflowRun.objects.filter(pk=runs[2].pk)).get()
            held.set()
            leave.wait(60)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(30)
        result = get_kernel().dispatch(CarryOutBulk())
        assert (result.done, result.held) == (5, 1)
        assert get_kernel().dispatch(CarryOutBulk()).done == 0
    finally:
        leave.set()
        holder.join()

    carry_out_when_free(operation)
    assert figures(operation) == ("COMPLETED", 6, 6, 0, 0)


def carry_out_when_free(operation: BulkOperation) -> None:
    def ended() -> bool:
        get_kernel().dispatch(CarryOutBulk())
        return not BulkOperation.objects.open().filter(pk=operation.pk).exists()

    until(ended, "what was held is done")


def test_keys_that_two_callers_want_give_one_run_each() -> None:
    requests = [NewRun("chain", {"value": number}, idempotency_key=f"k{number}") for number in range(60)]

    first, second = together(
        [lambda: create_runs(requests, chunk_size=20), lambda: create_runs(requests[::-1], chunk_size=20)]
    )

    assert [one.run_id for one in first] == [one.run_id for one in second[::-1]]
    assert sum(one.created for one in (*first, *second)) == 60
    assert (WorkflowRun.objects.count(), IdempotencyKey.objects.count()) == (60, 60)
    check_all()


def test_a_worker_carries_it_out_while_it_does_everything_else(settings: Any) -> None:
    settings.WORKFLOW_ENGINE = {"TICK_SECONDS": 0.3, "POLL_SECONDS": 0.05}
    operation = cancel_runs(make_runs(150))
    others = make_runs(5)

    worker = Worker(get_kernel(), WorkerOptions(threads=2, burst=True))
    worker.run()

    assert figures(operation)[:2] == ("COMPLETED", 150)
    assert set(WorkflowRun.objects.filter(pk__in=[run.pk for run in others]).values_list("status")) == {("COMPLETED",)}
    assert not BulkTarget.objects.open().exists()
    check_all()


def test_a_worker_without_orchestration_leaves_it_to_others(settings: Any) -> None:
    operation = cancel_runs(make_runs(3, run_at=None))

    Worker(get_kernel(), WorkerOptions(threads=1, burst=True, orchestrate=False)).run()
    assert figures(operation)[0] == "PENDING"

    Orchestrator(get_kernel()).tick()
    assert figures(operation) == ("COMPLETED", 3, 0, 3, 0)


def test_whoever_drives_one_run_leaves_it_to_others_too() -> None:
    operation = cancel_runs(make_runs(3))

    assert run_and_wait("chain", {"value": 1}, timeout=60).status == "COMPLETED"

    assert figures(operation)[0] == "PENDING"
