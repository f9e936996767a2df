from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from tests.workflows import Number, chain
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import (
    IdempotencyConflict,
    InvalidConfig,
    InvalidInput,
    PayloadTooLarge,
    RunNotFound,
    WorkflowNotFound,
)
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CreateRun
from workflow_engine.kernel.ports import Limits
from workflow_engine.models import IdempotencyKey, OutboxEvent, WorkflowAnnotation, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel

CHAIN = chain(2)


@stage("take-any")
def take_any(ctx: StageContext[Any]) -> Any:
    return ctx.input


ANYTHING = define_workflow("anything", input=Any).pipe(take_any).build()


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    known(CHAIN, ANYTHING)


def test_a_run_stores_its_validated_input_merged_config_and_plan(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run(CHAIN, {"value": "4"}, config={"add-1": {"amount": 7}}, metadata={"source": "test"}, actor="anna")

    assert run.was_created
    assert (run.status, run.priority, run.workflow_id, run.version) == ("PENDING", 5, "chain", "1")
    assert run.get_input() == {"value": 4}
    assert run.data.config == {"add-1": {"amount": 7}, "add-2": {"amount": 1}}
    assert run.plan == CHAIN.plan()
    assert run.metadata == {"source": "test"}
    assert run.created_at == clock.now()
    event = OutboxEvent.objects.get(run=run)
    assert (event.sequence, event.type, event.payload) == (1, "run.created", {"workflow_id": "chain"})


def test_annotations_and_subject_are_stored_with_the_run(kernel: Kernel) -> None:
    user = User.objects.create(username="anna")

    run = create_run("chain", {"value": 1}, subject=user, annotations={"trigger.source": "import", "none": None})

    assert list(WorkflowAnnotation.objects.values_list("key", "value")) == [("trigger.source", "import")]
    assert WorkflowRun.objects.for_subject(user).get().subject == user
    assert run.pk == WorkflowRun.objects.for_workflow(CHAIN).open().get().pk


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"workflow": "nope"}, WorkflowNotFound),
        ({"input": {"value": "x"}}, InvalidInput),
        ({"input": None}, InvalidInput),
        ({"config": {"nope": {}}}, InvalidConfig),
        ({"config": {"add-1": {"amount": "x"}}}, InvalidConfig),
        ({"priority": 11}, InvalidInput),
        ({"priority": "5"}, InvalidInput),
        ({"run_at": datetime(2026, 1, 1)}, InvalidInput),
        ({"run_at": "tomorrow"}, InvalidInput),
        ({"run_at": datetime(1, 1, 1, tzinfo=UTC)}, InvalidInput),
        ({"run_at": datetime(9999, 12, 31, tzinfo=UTC)}, InvalidInput),
        ({"metadata": {"a": float("nan")}}, InvalidInput),
        ({"metadata": [1]}, InvalidInput),
        ({"annotations": {"a": "\x00"}}, InvalidInput),
        ({"idempotency_key": ""}, InvalidInput),
        ({"idempotency_key": "k" * 256}, InvalidInput),
        ({"subject": User(username="unsaved")}, InvalidInput),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(
    kernel: Kernel, arguments: dict[str, Any], error: type[Exception]
) -> None:
    given = {"workflow": "chain", "input": {"value": 1}, "idempotency_key": "key", **arguments}

    with pytest.raises(error):
        create_run(given.pop("workflow"), given.pop("input"), **given)

    assert not WorkflowRun.objects.exists()
    assert not OutboxEvent.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert create_run("chain", {"value": 1}, idempotency_key="key").was_created


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, float("nan")]}, "a.1"),
        ({"a": float("inf")}, "a"),
        ({"b": {"c": "x\x00y"}}, "b.c"),
        (["\ud800"], "0"),
        ({"k\x00": 1}, "k\\x00"),
        ({"n": 10**1001}, "n"),
        (deep(70), "0.0"),
    ],
)
def test_values_that_a_database_would_mangle_are_refused_with_their_path(kernel: Kernel, value: Any, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        create_run(ANYTHING, value)

    assert refused.value.errors[0].path.startswith(path)
    assert not WorkflowRun.objects.exists()


@pytest.mark.parametrize("value", [0, "", False, None, [], {}, deep(60), "ä€😀", -(10**300), 1.5e300, {"": 1}])
def test_odd_but_good_values_come_back_as_they_were(kernel: Kernel, value: Any) -> None:
    run = create_run(ANYTHING, value)

    assert WorkflowRun.objects.get(pk=run.pk).get_input() == value


def test_a_large_input_goes_to_the_blob_store_and_comes_back(kernel: Kernel) -> None:
    run = create_run(ANYTHING, {"text": "x" * 70_000})

    assert run.data.input["size"] == 70_011
    assert run.get_input() == {"text": "x" * 70_000}


def test_a_payload_over_the_limit_is_refused_with_both_numbers(db: None) -> None:
    kernel = create_test_kernel(limits=Limits(max_payload_bytes=1000))

    with pytest.raises(PayloadTooLarge, match=r"2,002 bytes .* 1,000"):
        kernel.dispatch(CreateRun(workflow_id="anything", input="x" * 2000))

    assert not WorkflowRun.objects.exists()


def test_the_same_key_gives_the_same_run_and_no_second_event(kernel: Kernel) -> None:
    first = create_run("chain", {"value": 1}, idempotency_key="key", actor="anna")
    again = create_run("chain", {"value": 1}, idempotency_key="key", actor="bob")

    assert again.pk == first.pk
    assert (first.was_created, again.was_created) == (True, False)
    assert OutboxEvent.objects.count() == 1


def test_another_key_or_scope_gives_another_run(kernel: Kernel) -> None:
    runs = {
        create_run("chain", {"value": 1}, **options).pk
        for options in (
            {"idempotency_key": "a"},
            {"idempotency_key": "A"},
            {"idempotency_key": "a", "idempotency_scope": "x"},
            {},
            {},
        )
    }

    assert len(runs) == 5


def test_the_same_key_with_other_content_is_a_conflict_and_spares_the_callers_transaction(kernel: Kernel) -> None:
    create_run("chain", {"value": 1}, idempotency_key="key")

    with transaction.atomic():
        User.objects.create(username="anna")
        with pytest.raises(IdempotencyConflict):
            create_run("chain", {"value": 2}, idempotency_key="key")

    assert User.objects.filter(username="anna").exists()
    assert WorkflowRun.objects.count() == 1


def test_a_run_exists_exactly_if_the_callers_transaction_commits(kernel: Kernel) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create_run("chain", {"value": 1}, idempotency_key="key")
        _ = 1 / 0

    assert not WorkflowRun.objects.exists()
    assert create_run("chain", {"value": 1}, idempotency_key="key").was_created


def test_the_doorbell_rings_after_the_commit_and_never_for_a_rolled_back_run(
    kernel: Kernel, django_capture_on_commit_callbacks: Any
) -> None:
    pushed = kernel.ports.transport.pushed  # type: ignore[attr-defined]
    with django_capture_on_commit_callbacks(execute=True):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            create_run("chain", {"value": 1})
            _ = 1 / 0
        create_run("chain", {"value": 2})
        assert pushed == []

    assert [message.queue for message in pushed] == ["workflows"]


def test_a_later_start_is_due_later(kernel: Kernel, clock: FakeClock) -> None:
    run = create_run("chain", {"value": 1}, run_at=clock.now() + timedelta(hours=1))

    assert run.due_at - run.created_at == timedelta(hours=1)


def test_cancelling_a_run_that_does_not_exist_is_a_typed_error(kernel: Kernel) -> None:
    for missing in ("01890000-0000-7000-8000-000000000000", "rubbish"):
        with pytest.raises(RunNotFound):
            cancel_run(missing)


def test_input_may_be_given_as_the_type_itself(kernel: Kernel) -> None:
    assert create_run(CHAIN, Number(value=3)).get_input() == {"value": 3}
