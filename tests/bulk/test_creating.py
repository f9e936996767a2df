"""``create_runs``: many runs, few statements, and every request for itself."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import DataError, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from pydantic import BaseModel, field_validator

from tests.invariants import check_all
from tests.workflows import AddConfig, Number, chain
from workflow_engine import CreatedRun, NewRun, Trigger, acreate_runs, create_run, create_runs
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import (
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidConfig,
    InvalidInput,
    InvalidPayload,
    WorkflowEngineError,
    WorkflowNotFound,
)
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel, points
from workflow_engine.kernel.commands import create_runs as creating
from workflow_engine.models import IdempotencyKey, OutboxEvent, RunData, WorkflowAnnotation, WorkflowRun

pytestmark = pytest.mark.django_db
CHAIN = chain(2)


class Picky(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def look_it_up(cls, value: int) -> int:
        return {1: 1}[value]


@stage("take")
def take(ctx: StageContext[Picky]) -> int:
    return ctx.input.value


PICKY = define_workflow("picky", input=Picky).pipe(take).build()


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    known(CHAIN, PICKY)


def good(value: int = 1, **options: Any) -> NewRun:
    return NewRun("chain", {"value": value}, **options)


def test_each_request_becomes_a_run_like_one_of_create_run(kernel: Kernel, host: InlineHost) -> None:
    ada = User.objects.create(username="ada")
    options: dict[str, Any] = {
        "config": {"add-1": {"amount": 7}},
        "priority": 8,
        "metadata": {"batch": 1},
        "subject": ada,
        "annotations": {Trigger.SOURCE: "import"},
        "idempotency_key": "k",
    }

    one = create_run("chain", {"value": 1}, actor=ada, **{**options, "idempotency_scope": "one"})
    results = create_runs([NewRun(CHAIN, Number(value=1), **options), good(2)], actor=ada)

    ids = [result.run_id for result in results]
    assert results == [CreatedRun(0, ids[0], True), CreatedRun(1, ids[1], True)]
    rows = list(WorkflowRun.objects.filter(pk__in=[one.pk, ids[0]]).values())
    assert rows[0] == {**rows[1], "id": rows[0]["id"]}
    sides = list(RunData.objects.filter(pk__in=[one.pk, ids[0]]).values())
    assert sides[0] == {**sides[1], "run_id": sides[0]["run_id"]}
    assert WorkflowAnnotation.objects.filter(key="trigger.source", value="import").count() == 2
    assert set(OutboxEvent.objects.values_list("type", "sequence")) == {("run.created", 1)}
    assert IdempotencyKey.objects.filter(run_id__in=[one.pk, ids[0]]).count() == 2
    host.drain()
    assert [WorkflowRun.objects.get(pk=pk).get_output() for pk in ids] == [{"value": 9}, {"value": 4}]
    check_all()


BAD: list[tuple[Any, type[WorkflowEngineError], str]] = [
    (NewRun("nope", {}), WorkflowNotFound, "'nope'"),
    (NewRun("chain", {"value": "x"}), InvalidInput, "value: "),
    (NewRun("chain", {"value": 1}, config={"add-1": {"amount": "x"}}), InvalidConfig, "add-1.amount"),
    (good(priority=11), InvalidInput, "priority: must be a whole number from 0 to 10, got 11"),
    (good(subject=User(username="unsaved")), InvalidInput, "subject: must be a saved row"),
    (good(idempotency_key=""), InvalidInput, "idempotency_key: must be text of 1 to 255 characters"),
    (NewRun(7, {}), InvalidInput, "workflow: must be a workflow or its id, got 7"),  # type: ignore[arg-type]
    ({"workflow": "chain"}, InvalidInput, "requests.1: must be a NewRun, got dict"),
    (NewRun("picky", {"value": 2}), InvalidInput, "checking it raised KeyError: 2"),
]


@pytest.mark.parametrize(("bad", "kind", "text"), BAD)
def test_a_request_that_is_wrong_keeps_no_other_from_being_created(
    kernel: Kernel, bad: Any, kind: type[WorkflowEngineError], text: str
) -> None:
    results = create_runs([good(1), bad, good(3)])

    assert [(one.index, one.created, one.error is None) for one in results] == [
        (0, True, True),
        (1, False, False),
        (2, True, True),
    ]
    assert isinstance(results[1].error, kind)
    assert text in str(results[1].error)
    assert results[1].run_id is None
    assert set(WorkflowRun.objects.values_list("pk", flat=True)) == {results[0].run_id, results[2].run_id}


@pytest.mark.parametrize("inside", [False, True])
def test_what_only_the_database_refuses_fails_alone_too(
    kernel: Kernel, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = creating.insert

    def refuse_some(work: Any, command: Any, *rest: Any) -> Any:
        if command.priority == 7:
            raise DataError("value out of range")
        return insert(work, command, *rest)

    monkeypatch.setattr(creating, "insert", refuse_some)
    refused = good(priority=7)

    if inside:
        with transaction.atomic():
            results = create_runs([good(), refused, good()])
    else:
        results = create_runs([good(), refused, good()])

    assert [one.created for one in results] == [True, False, True]
    assert isinstance(results[1].error, InvalidPayload)
    assert WorkflowRun.objects.count() == 2
    check_all()


def test_a_key_gives_one_run_whoever_used_it_before(kernel: Kernel) -> None:
    before = create_run("chain", {"value": 1}, idempotency_key="before")

    requests = [
        good(1, idempotency_key="before"),
        good(2, idempotency_key="twice"),
        good(2, idempotency_key="twice"),
        good(3, idempotency_key="twice"),
        good(9, idempotency_key="before"),
        good(2, idempotency_key="twice", idempotency_scope="other"),
    ]
    first, again = create_runs(requests), create_runs(requests)

    assert first[0] == CreatedRun(0, before.pk, False)
    assert (first[1].created, first[2].created, first[5].created) == (True, False, True)
    assert first[2].run_id == first[1].run_id != first[5].run_id
    assert all(isinstance(first[place].error, IdempotencyConflict) for place in (3, 4))
    assert [one.run_id for one in again] == [one.run_id for one in first]
    assert not any(one.created for one in again)
    assert WorkflowRun.objects.count() == 3
    assert create_run("chain", {"value": 2}, idempotency_key="twice").pk == first[1].run_id


def test_a_generator_is_read_chunk_by_chunk(kernel: Kernel) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Heavy(dict[str, int]):
        """A dict that can be referred to weakly."""

    def requests() -> Iterator[NewRun]:
        nonlocal most
        for number in range(30):
            heavy = Heavy(value=number)
            alive.append(weakref.ref(heavy))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            yield NewRun("chain", heavy)

    results = create_runs(requests(), chunk_size=5)

    assert [one.index for one in results] == list(range(30))
    assert most <= 11
    assert WorkflowRun.objects.count() == 30


@pytest.mark.parametrize("size", [0, -1, True, "5", 10_001])
def test_a_chunk_size_that_is_none_is_refused_before_anything_is_read(kernel: Kernel, size: Any) -> None:
    with pytest.raises(InvalidInput, match="chunk_size: must be a whole number from 1 to 10,000, got"):
        create_runs(iter([good()]), chunk_size=size)

    assert not WorkflowRun.objects.exists()
    assert create_runs([]) == []


@pytest.mark.django_db(transaction=True)
def test_a_chunk_that_dies_leaves_those_before_and_repeating_creates_the_rest(kernel: Kernel) -> None:
    requests = [good(number, idempotency_key=f"k{number}") for number in range(6)]
    hook = points.install(points.hook_from(f"{points.CREATE_IN_TX}:2:raise"))
    try:
        with pytest.raises(points.Crash):
            create_runs(requests, chunk_size=2)
    finally:
        points.install(hook)
    before = set(WorkflowRun.objects.values_list("pk", flat=True))

    results = create_runs(requests, chunk_size=2)

    assert len(before) == 2
    assert [one.created for one in results] == [False, False, True, True, True, True]
    assert WorkflowRun.objects.count() == 6
    check_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keyed", [False, True])
def test_a_commit_whose_answer_is_lost_creates_each_run_once(kernel: Kernel, keyed: bool) -> None:
    lost = []

    def lose(point: str) -> None:
        if point == points.CREATE_IN_TX and not lost:
            lost.append(point)
            transaction.on_commit(answer_is_lost)

    def answer_is_lost() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    hook = points.install(lose)
    try:
        results = create_runs([good(n, idempotency_key=f"k{n}" if keyed else None) for n in range(3)])
    finally:
        points.install(hook)

    assert [one.created for one in results] == [True] * 3
    assert WorkflowRun.objects.count() == 3
    check_all()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_stays_away_raises_with_what_was_done(kernel: Kernel) -> None:
    passed = []

    def away(point: str) -> None:
        if point == points.CREATE_IN_TX:
            passed.append(point)
            if len(passed) > 1:
                raise OperationalError("server closed the connection unexpectedly")

    hook = points.install(away)
    try:
        with pytest.raises(DatabaseUnavailable) as error:
            create_runs([good(number) for number in range(4)], chunk_size=2)
    finally:
        points.install(hook)

    assert [one.index for one in error.value.done] == [0, 1]
    assert {one.run_id for one in error.value.done} == set(WorkflowRun.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_everything_joins_the_callers_transaction(kernel: Kernel) -> None:
    class Regret(Exception):
        pass

    with pytest.raises(Regret), transaction.atomic():
        results = create_runs([good(n, idempotency_key=f"k{n}") for n in range(3)], chunk_size=1)
        assert all(one.created for one in results)
        raise Regret

    assert not WorkflowRun.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert not kernel.ports.transport.depth("workflows")


@pytest.mark.django_db(transaction=True)
def test_async_code_creates_them_too() -> None:
    async def create() -> list[CreatedRun]:
        # One thread, whose connection is closed at the end: the loop's threads end with it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        try:
            return await acreate_runs([good(), good()], actor="ada")
        finally:
            await sync_to_async(connections.close_all, thread_sensitive=False)()

    results = asyncio.run(create())

    assert [one.created for one in results] == [True, True]
    assert set(RunData.objects.values_list("created_by", flat=True)) == {"ada"}


@pytest.mark.postgresql
@pytest.mark.parametrize("keyed", [False, True])
def test_more_runs_cost_no_more_statements(keyed: bool) -> None:
    def cost(count: int) -> int:
        key = f"{count}-{{}}" if keyed else None
        requests = [
            good(n, idempotency_key=key and key.format(n), annotations={"a": n}, subject=None) for n in range(count)
        ]
        with CaptureQueriesContext(connection) as captured:
            create_runs(requests)
        return len(captured)

    cost(1)

    assert cost(2) == cost(150)


def test_the_config_that_runs_share_is_stored_with_each(kernel: Kernel) -> None:
    config = {"add-1": AddConfig(amount=3).model_dump()}

    results = create_runs([good(n, config=config) for n in range(2)])

    stored = RunData.objects.filter(run__in=[one.run_id for one in results]).values_list("config", flat=True)
    assert list(stored) == [{"add-1": {"amount": 3}, "add-2": {"amount": 1}}] * 2
