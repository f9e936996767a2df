"""Bulk operations: which runs are meant, what becomes of each, and what the row says of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import override_settings

from tests.bulk.operations import carry_out, events, figures, make_runs, messages, outcomes
from tests.invariants import check_all
from tests.workflows import chain
from workflow_engine import (
    acancel_bulk,
    acancel_runs,
    acreate_runs,
    apause_runs,
    arerun_runs,
    aresume_runs,
    cancel_bulk,
    cancel_run,
    cancel_runs,
    pause_run,
    pause_runs,
    rerun_runs,
    resume_runs,
)
from workflow_engine.errors import BulkOperationNotFound, IdempotencyConflict, InvalidInput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CarryOutBulk, StartBulk
from workflow_engine.models import BulkOperation, BulkTarget, OutboxEvent, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
CHAIN = chain(2)


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    known(CHAIN)


def test_the_runs_of_a_queryset_are_cancelled_and_the_row_says_how_far_it_is(kernel: Kernel, clock: FakeClock) -> None:
    runs = make_runs(7)
    cancel_run(runs[0])
    actor = User.objects.create(username="ada")

    operation = cancel_runs(WorkflowRun.objects.for_workflow("chain").order_by("id"), reason="wrong file", actor=actor)

    assert figures(operation) == ("PENDING", 7, 0, 0, 0)
    assert (operation.kind, operation.actor, operation.done) == ("cancel", "ada", 0)
    assert WorkflowRun.objects.open().count() == 6
    kernel.dispatch(CarryOutBulk(max=3))
    assert figures(operation) == ("RUNNING", 7, 2, 1, 0)
    clock.advance(timedelta(seconds=5))
    assert carry_out(kernel, 3) == 2
    assert figures(operation) == ("COMPLETED", 7, 6, 1, 0)
    assert operation.done == 7
    assert operation.finished_at == clock.now()
    assert messages(operation, "unchanged") == {"It had already ended: it is CANCELLED."}
    told = OutboxEvent.objects.filter(type="run.cancelled", causation_id=operation.pk)
    assert {(event.payload["reason"], event.payload["actor"]) for event in told} == {("wrong file", "ada")}
    assert told.count() == 6
    check_all()


def test_runs_are_paused_resumed_and_rerun(kernel: Kernel, host: InlineHost) -> None:
    runs = make_runs(3)
    pause_run(runs[1])

    paused = pause_runs(runs, reason="audit")
    carry_out(kernel)
    resumed = resume_runs([str(runs[0].pk), runs[1].pk])
    carry_out(kernel)
    host.drain()
    rerun = rerun_runs(WorkflowRun.objects.all(), "add-2", config={"add-2": {"amount": 5}})
    carry_out(kernel)
    host.drain()

    assert figures(paused) == ("COMPLETED", 3, 2, 1, 0)
    assert messages(paused, "unchanged") == {"It was paused already."}
    assert figures(resumed) == ("COMPLETED", 2, 2, 0, 0)
    assert figures(rerun) == ("COMPLETED", 3, 2, 0, 1)
    (why,) = messages(rerun, "failed")
    assert why.startswith(f"Run {runs[2].pk} is PENDING: only a run that is COMPLETED, FAILED or CANCELLED can be")
    assert [WorkflowRun.objects.get(pk=run.pk).get_output() for run in runs] == [{"value": 6}, {"value": 7}, None]
    check_all()


def test_one_bad_run_does_not_keep_the_others(kernel: Kernel, host: InlineHost) -> None:
    runs = make_runs(4)
    host.drain()
    nobody = uuid.uuid4()

    operation = rerun_runs([runs[0], nobody, runs[1], runs[2]], "add-1", config={"add-1": {"amount": "many"}})
    cancelled = cancel_runs([nobody, runs[3]])
    wrong = rerun_runs(runs[3:], "unknown")
    carry_out(kernel)

    assert figures(operation) == ("COMPLETED", 4, 0, 0, 4)
    assert f"No run '{nobody}' exists." in messages(operation, "failed")
    assert any("add-1.amount" in message for message in messages(operation, "failed"))
    assert figures(cancelled) == ("COMPLETED", 2, 0, 1, 1)
    assert figures(wrong) == ("COMPLETED", 1, 0, 0, 1)
    assert "has no stage 'unknown'" in messages(wrong, "failed").pop()


def test_a_run_that_is_deleted_meanwhile_is_said_to_be_gone(kernel: Kernel) -> None:
    runs = make_runs(3)
    operation = cancel_runs(runs)
    runs[1].delete()

    carry_out(kernel)

    assert figures(operation) == ("COMPLETED", 3, 2, 0, 1)
    assert messages(operation, "failed") == {f"No run '{BulkTarget.objects.get(outcome='failed').run_id}' exists."}


CHOICES: dict[str, Callable[[], Any]] = {
    "filtered": lambda: WorkflowRun.objects.filter(priority=9),
    "sliced": lambda: WorkflowRun.objects.order_by("-priority", "id")[:2],
    "values": lambda: WorkflowRun.objects.filter(priority=9).values("workflow"),
    "joined": lambda: WorkflowRun.objects.filter(priority=9, events__type="run.created").select_related("data"),
    "doubled": lambda: WorkflowRun.objects.filter(priority=9, annotations__key__in=["a", "b"]),
    "union": lambda: WorkflowRun.objects.filter(priority=9).union(WorkflowRun.objects.filter(priority=9)),
    "deferred": lambda: WorkflowRun.objects.filter(priority=9).defer("error", "data__plan"),
    "generator": lambda: (run for run in WorkflowRun.objects.filter(priority=9)),
    "twice": lambda: [*WorkflowRun.objects.filter(priority=9), *WorkflowRun.objects.filter(priority=9)],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_set_of_runs_is_fixed_when_it_is_made(kernel: Kernel, choice: str) -> None:
    make_runs(3)
    chosen = make_runs(2, priority=9, annotations={"a": 1, "b": 2})

    operation = cancel_runs(CHOICES[choice]())
    make_runs(2, priority=9, annotations={"a": 1, "b": 2})
    carry_out(kernel)

    assert figures(operation) == ("COMPLETED", 2, 2, 0, 0)
    assert set(events("run.cancelled")) == {run.pk for run in chosen}


def test_runs_are_taken_in_the_order_in_which_they_were_named(kernel: Kernel) -> None:
    runs = make_runs(4)

    cancel_runs(WorkflowRun.objects.order_by("-id"))
    kernel.dispatch(CarryOutBulk(max=2))

    assert set(events("run.cancelled")) == {run.pk for run in runs[2:]}


def test_more_runs_than_fit_into_a_chunk_are_all_there(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_engine.kernel.commands.start_bulk.CHUNK_SIZE", 3)
    runs = make_runs(10)

    of_rows, of_query = cancel_runs(runs), cancel_runs(WorkflowRun.objects.order_by("-id"))

    assert (of_rows.total, of_query.total) == (10, 10)


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (7, "runs: must be a queryset of WorkflowRun, or a list of rows or ids, got int"),
        ("chain", "runs: must be a queryset of WorkflowRun, or a list of rows or ids, got str"),
        ({"id": 1}, "runs: must be a queryset of WorkflowRun, or a list of rows or ids, got dict"),
        (WorkflowRun.objects, "runs: must be a queryset of WorkflowRun, or a list of rows or ids, got "),
        (User.objects.all(), "runs: must be a queryset of WorkflowRun, got one of User"),
        ([uuid.uuid4(), "nonsense"], "runs.1: must be a run or its id, got 'nonsense'"),
        ([None], "runs.0: must be a run or its id, got None"),
    ],
)
def test_what_are_no_runs_is_refused_by_name(kernel: Kernel, runs: Any, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        cancel_runs(runs)

    assert text in str(refused.value)
    assert not BulkOperation.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"stage": ""}, "stage: must be a stage or its id, got ''"),
        ({"stage": None}, "stage: must be a stage or its id, got None"),
        ({"stage": "add-1", "config": [1]}, "config: must map stage ids to config, got list"),
        ({"stage": "add-1", "config": {"add-1": object()}}, "config: cannot be written as JSON"),
        ({"stage": "add-1", "config": {"add-1": {"a": float("nan")}}}, "config.add-1.a: nan is not a JSON number"),
        ({"stage": "a\x00"}, "stage: text with a NUL character"),
    ],
)
def test_arguments_of_a_rerun_that_no_run_could_take_are_refused_at_once(
    kernel: Kernel, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        rerun_runs([], **arguments)

    assert text in str(refused.value)


def test_a_kind_or_reason_that_is_none_is_refused(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput, match="kind: must be one of cancel, pause, resume, rerun, got 'delete'"):
        kernel.dispatch(StartBulk(kind="delete", runs=[]))
    with pytest.raises(InvalidInput, match="reason: must be text, got 7"):
        cancel_runs([], reason=7)  # type: ignore[arg-type]


def test_no_runs_are_no_work(kernel: Kernel, clock: FakeClock) -> None:
    operation = cancel_runs(WorkflowRun.objects.none())

    assert figures(operation) == ("COMPLETED", 0, 0, 0, 0)
    assert operation.finished_at == clock.now()
    assert not kernel.ports.transport.pushed  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
def test_it_joins_the_callers_transaction_and_rings_after_it(kernel: Kernel) -> None:
    class Regret(Exception):
        pass

    runs = make_runs(2)
    pushed: list[Any] = kernel.ports.transport.pushed  # type: ignore[attr-defined]
    pushed.clear()

    with pytest.raises(Regret), transaction.atomic():
        cancel_runs(runs)
        raise Regret
    assert not BulkOperation.objects.exists()
    assert not BulkTarget.objects.exists()
    assert not pushed
    with transaction.atomic():
        cancel_runs(runs)
        assert not pushed

    assert [(message.queue, message.stage_run_id) for message in pushed] == [("workflows", None)]


def test_a_key_gives_one_operation_on_the_runs_of_the_first_time(kernel: Kernel) -> None:
    first = rerun_runs(make_runs(2), "add-1", idempotency_key="monday")
    again = rerun_runs(WorkflowRun.objects.all(), "add-1", idempotency_key="monday")

    assert (again.pk, again.total) == (first.pk, 2)
    assert BulkOperation.objects.count() == 1
    with pytest.raises(IdempotencyConflict):
        rerun_runs([], "add-2", idempotency_key="monday")
    with pytest.raises(InvalidInput, match="idempotency_key: must be text of 1 to 255 characters"):
        cancel_runs([], idempotency_key="")


def test_a_small_operation_does_not_wait_for_a_large_one(kernel: Kernel) -> None:
    large, small = cancel_runs(make_runs(30)), cancel_runs(make_runs(3))

    kernel.dispatch(CarryOutBulk(max=8))

    assert figures(small) == ("COMPLETED", 3, 3, 0, 0)
    assert figures(large) == ("RUNNING", 30, 4, 0, 0)


def test_a_cancelled_operation_goes_no_further_and_its_figures_stand(kernel: Kernel, clock: FakeClock) -> None:
    runs = make_runs(6)
    operation = cancel_runs(runs)
    kernel.dispatch(CarryOutBulk(max=2))

    cancelled = [cancel_bulk(operation), cancel_bulk(str(operation.pk))]
    kernel.dispatch(CarryOutBulk(max=100))

    assert cancelled == [True, False]
    assert figures(operation) == ("CANCELLED", 6, 2, 0, 0)
    assert outcomes(operation) == {"changed": 2, "cancelled": 4}
    assert operation.finished_at == clock.now()
    assert WorkflowRun.objects.open().count() == 4


@pytest.mark.parametrize("operation", [uuid.uuid4(), "nonsense", None])
def test_an_operation_that_does_not_exist_is_said_to_be_missing(kernel: Kernel, operation: Any) -> None:
    with pytest.raises(BulkOperationNotFound, match=r"No bulk operation '.*' exists"):
        cancel_bulk(operation)


def test_every_tick_of_an_orchestrator_does_a_part(kernel: Kernel) -> None:
    operation = cancel_runs(make_runs(5))
    orchestrator = Orchestrator(kernel, batch=2)

    counts = [orchestrator.tick()["bulk"] for _ in range(3)]

    assert counts == [2, 2, 1]
    assert figures(operation) == ("COMPLETED", 5, 5, 0, 0)


def test_a_page_whose_process_died_is_taken_when_its_time_is_over(kernel: Kernel, clock: FakeClock) -> None:
    operation = cancel_runs(make_runs(3))
    until = clock.now() + timedelta(seconds=kernel.ports.limits.lease_seconds)
    BulkTarget.objects.take(list(BulkTarget.objects.values_list("pk", flat=True)[:2]), until)

    kernel.dispatch(CarryOutBulk())
    before = outcomes(operation)
    clock.advance(timedelta(seconds=kernel.ports.limits.lease_seconds))
    kernel.dispatch(CarryOutBulk())

    assert before == {"changed": 1, "open": 2}
    assert figures(operation) == ("COMPLETED", 3, 3, 0, 0)


@pytest.mark.django_db(transaction=True)
@override_settings(WORKFLOW_ENGINE={"TRANSPORT": "eager"})
def test_the_eager_transport_carries_it_out_at_once() -> None:
    runs = make_runs(3)

    operation = rerun_runs(runs, CHAIN.get_stage("add-2"))

    assert figures(operation) == ("COMPLETED", 3, 3, 0, 0)
    assert set(WorkflowRun.objects.values_list("status", "generation")) == {("COMPLETED", 1)}


@pytest.mark.django_db(transaction=True)
def test_async_code_has_all_of_them() -> None:
    runs = make_runs(2)

    async def use_all() -> list[Any]:
        # One thread, whose connection is closed at the end: the loop's threads end with it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        try:
            made = [
                await apause_runs(runs),
                await aresume_runs(runs),
                await acancel_runs(runs),
                await arerun_runs(runs, "add-1"),
            ]
            return [*[one.kind for one in made], await acancel_bulk(made[0]), await acreate_runs([])]
        finally:
            await sync_to_async(connections.close_all, thread_sensitive=False)()

    assert asyncio.run(use_all()) == ["pause", "resume", "cancel", "rerun", True, []]
