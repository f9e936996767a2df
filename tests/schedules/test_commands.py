"""``schedule`` and ``cancel_scheduled``: a command at a time, once, and what is said when it cannot be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from tests.janitors import worker
from tests.schedules.nights import INPUT, MINUTE, NIGHTLY, Night, fire, utc
from workflow_engine import cancel_run, cancel_scheduled, create_run, pause_run, schedule
from workflow_engine.definitions.registry import registry_override
from workflow_engine.errors import (
    AlreadyScheduled,
    InvalidConfig,
    InvalidInput,
    RunNotFound,
    StageNotFound,
    WorkflowEngineError,
    WorkflowNotFound,
)
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    AnswerStage,
    Beat,
    CancelRun,
    CreateRun,
    FireSchedules,
    PauseRun,
    PauseWork,
    RerunFrom,
    ResumeRun,
    ResumeWork,
)
from workflow_engine.models import Pause, ScheduledCommand, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db
LATER = utc("2026-01-01 13:00")


@pytest.fixture(autouse=True)
def workflow(known: Any) -> Iterator[None]:
    known(NIGHTLY)
    yield


@pytest.fixture
def run(kernel: Kernel) -> WorkflowRun:
    return create_run(NIGHTLY, INPUT, metadata={"schedule": {"due_at": "never"}})


def after(row: ScheduledCommand) -> tuple[str, Any]:
    row.refresh_from_db()
    return row.status, row.result


def test_nothing_happens_before_the_time_and_once_at_it(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    row = schedule(CancelRun(run_id=run.pk, reason="too late"), run_at=LATER, correlation_id="order-7", actor="ada")
    assert (row.status, row.due_at, row.correlation_id, row.actor) == ("PENDING", LATER, "order-7", "ada")
    assert fire(kernel) == 0

    clock.move_to(LATER)

    assert (fire(kernel), fire(kernel)) == (1, 0)
    assert after(row) == ("FIRED", {"cancelled": True})
    assert (row.finished_at, row.due_at) == (LATER, None)
    run.refresh_from_db()
    assert run.status == "CANCELLED"
    event = run.events.get(type="run.cancelled")
    assert (event.payload["reason"], event.payload["actor"]) == ("too late", "ada")


def test_who_does_it_may_be_named_by_the_command(kernel: Kernel, run: WorkflowRun) -> None:
    named = schedule(CancelRun(run_id=run.pk, actor="bob"), run_at=LATER)
    over = schedule(CancelRun(run_id=run.pk, actor="bob"), run_at=LATER, actor="ada")

    assert (named.actor, over.actor) == ("bob", "ada")


def test_every_command_that_can_be_put_off_is_carried_out(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    other, third = create_run(NIGHTLY, INPUT), create_run(NIGHTLY, INPUT)
    pause_run(other)
    cancel_run(third)
    rows = [
        schedule(CreateRun(workflow_id="nightly", input=Night(folder="x"), priority=9), run_at=LATER, actor="ada"),
        schedule(PauseRun(run_id=run.pk), run_at=LATER),
        schedule(ResumeRun(run_id=other.pk), run_at=LATER),
        schedule(RerunFrom(run_id=third.pk, stage_id="sweep"), run_at=LATER),
        schedule(PauseWork(scope="workflow", name="nightly"), run_at=LATER),
        schedule(PauseWork(scope="queue", name="slow"), run_at=LATER),
        schedule(ResumeWork(scope="queue", name="slow"), run_at=LATER + MINUTE),
    ]

    clock.move_to(LATER)
    assert fire(kernel) == 6
    clock.advance(MINUTE)
    assert fire(kernel) == 1

    results = [after(row)[1] for row in rows]
    made = WorkflowRun.objects.get(pk=results[0]["run_id"])
    assert (made.get_input(), made.priority, made.data.created_by) == ({"folder": "x", "copies": 1}, 9, "ada")
    assert results[1:] == [
        {"changed": True},
        {"changed": True},
        {"generation": 1},
        {"changed": True},
        {"changed": True},
        {"changed": True},
    ]
    assert list(Pause.objects.values_list("name", flat=True)) == ["nightly"]


def test_a_wire_name_with_a_payload_is_the_same_command(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    row = schedule("run.cancel", {"run_id": str(run.pk)}, run_at=LATER)

    clock.move_to(LATER)

    assert fire(kernel) == 1
    assert after(row) == ("FIRED", {"cancelled": True})
    assert row.correlation_id == str(row.pk)


def test_the_same_call_again_is_the_same_command_while_it_is_pending(
    kernel: Kernel, clock: FakeClock, run: WorkflowRun
) -> None:
    def put_off(at: datetime = LATER) -> ScheduledCommand:
        return schedule(CancelRun(run_id=run.pk), run_at=at, correlation_id="order-7")

    first = put_off()
    again = put_off()

    assert (again.pk, first.was_created, again.was_created) == (first.pk, True, False)
    with pytest.raises(AlreadyScheduled, match=r"'order-7' has a pending command: run.cancel at 2026-01-01T13:00"):
        put_off(LATER + MINUTE)
    assert cancel_scheduled("order-7")
    second = put_off(LATER + MINUTE)
    assert second.pk != first.pk
    subject = {"workflow_id": "nightly", "input": INPUT, "subject": (1, "7")}
    assert [schedule("run.create", subject, run_at=LATER, correlation_id="7").was_created for _ in range(2)] == [
        True,
        False,
    ]
    # Ids are told apart by every letter.
    assert schedule(CancelRun(run_id=run.pk), run_at=LATER, correlation_id="Order-7").was_created


def test_what_is_cancelled_is_not_carried_out(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    row = schedule(CancelRun(run_id=run.pk), run_at=LATER)

    assert (cancel_scheduled(row), cancel_scheduled(row), cancel_scheduled(row.correlation_id)) == (True, False, False)

    clock.move_to(LATER)
    assert fire(kernel) == 0
    assert after(row) == ("CANCELLED", None)


def test_it_joins_the_callers_transaction(kernel: Kernel, run: WorkflowRun) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        schedule(CancelRun(run_id=run.pk), run_at=LATER)
        raise ZeroDivisionError

    assert not ScheduledCommand.objects.exists()


@pytest.mark.parametrize(
    ("command", "payload", "field"),
    [
        ("run.delete", {}, "command"),
        ("lease.reap_stale", {}, "command"),
        (None, {}, "command"),
        ("run.cancel", {}, "run_id"),
        ("run.cancel", {"run_id": "7"}, "run_id"),
        ("run.cancel", {"run_id": str(uuid.uuid4()), "reson": "x"}, "reson"),
        ("run.cancel", {"run_id": str(uuid.uuid4()), "reason": 7}, "reason"),
        ("run.cancel", {"run_id": str(uuid.uuid4()), "actor": "root"}, "actor"),
        ("run.create", {"workflow_id": "nightly", "input": {"copies": "x"}}, "folder"),
        ("run.create", {"workflow_id": "nightly", "input": INPUT, "priority": 11}, "priority"),
        ("run.create", {"workflow_id": "nightly", "input": INPUT, "run_at": "2026-01-01"}, "run_at"),
        ("run.create", {"workflow_id": "nightly", "input": {"folder": "a\0b"}}, "input.folder"),
        ("run.create", {"workflow_id": "nightly", "input": {"folder": "x" * 70_000}}, "payload"),
        ("work.pause", {"scope": "planet", "name": "earth"}, "scope"),
        ("run.cancel", ["run_id"], "payload"),
    ],
)
def test_a_payload_that_is_wrong_is_refused_with_the_field_named(
    kernel: Kernel, command: Any, payload: Any, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        schedule(command, payload, run_at=LATER)

    assert field in {error.path for error in caught.value.errors}
    assert not ScheduledCommand.objects.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (CancelRun(run_id=uuid.uuid4()), RunNotFound),
        (RerunFrom(run_id=uuid.uuid4(), stage_id="sweep"), RunNotFound),
        (CreateRun(workflow_id="nightlyy", input=INPUT), WorkflowNotFound),
        (CreateRun(workflow_id="nightly", input=INPUT, config={"gone": {}}), InvalidConfig),
        (PauseWork(scope="workflow", name="nightlyy"), WorkflowNotFound),
        (CreateRun(workflow_id="nightly", input=INPUT, idempotency_key="k"), InvalidInput),
        (CreateRun(workflow_id="nightly", input=INPUT, run_at=LATER), InvalidInput),
        (AnswerStage(run_id=uuid.uuid4(), stage_id="x"), InvalidInput),
    ],
)
def test_what_the_command_itself_would_refuse_now_is_refused(
    kernel: Kernel, command: Any, error: type[WorkflowEngineError]
) -> None:
    with pytest.raises(error):
        schedule(command, run_at=LATER)

    assert not ScheduledCommand.objects.exists()


def test_a_rerun_from_a_stage_that_is_none_is_refused(kernel: Kernel, run: WorkflowRun) -> None:
    with pytest.raises(StageNotFound, match="sweeep"):
        schedule(RerunFrom(run_id=run.pk, stage_id="sweeep"), run_at=LATER)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"run_at": datetime(2026, 1, 1)}, "run_at"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": LATER, "correlation_id": ""}, "correlation_id"),
        ({"run_at": LATER, "correlation_id": "x" * 201}, "correlation_id"),
        ({"run_at": LATER, "correlation_id": "a\0b"}, "correlation_id"),
    ],
)
def test_times_and_ids_that_are_none_are_refused(
    kernel: Kernel, run: WorkflowRun, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        schedule(CancelRun(run_id=run.pk), **options)

    assert [error.path for error in caught.value.errors] == [field]


def test_what_is_wrong_for_good_is_given_up_at_once_and_says_why(
    kernel: Kernel, clock: FakeClock, run: WorkflowRun
) -> None:
    row = schedule(RerunFrom(run_id=run.pk, stage_id="sweep"), run_at=LATER)
    good = schedule(CancelRun(run_id=run.pk), run_at=LATER + MINUTE)

    clock.move_to(LATER)
    made = kernel.dispatch(FireSchedules())

    assert (made.fired, made.failed) == (0, 1)
    assert after(row) == ("DEAD", None)
    assert "PENDING" in row.error
    assert (row.tries, row.due_at) == (1, None)
    clock.advance(MINUTE)
    assert fire(kernel) == 1
    assert after(good)[0] == "FIRED"


def test_a_workflow_that_is_unknown_for_a_while_is_waited_for(kernel: Kernel, clock: FakeClock) -> None:
    row = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=LATER)
    clock.move_to(LATER)
    with registry_override():
        fire(kernel)
        assert after(row)[0] == "PENDING"
        assert "'nightly'" in row.error
        assert row.due_at == LATER + timedelta(seconds=2)

    clock.advance(MINUTE)

    assert fire(kernel) == 1
    assert (after(row)[0], row.error) == ("FIRED", "")


def test_a_workflow_that_stays_unknown_is_given_up_after_an_hour(kernel: Kernel, clock: FakeClock) -> None:
    row = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=LATER)
    with registry_override():
        for _ in range(80):
            clock.advance(MINUTE * 2)
            fire(kernel)

    assert after(row)[0] == "DEAD"
    assert 12 < row.tries < 30


def test_a_grace_begins_with_the_first_try_and_not_with_the_time(kernel: Kernel, clock: FakeClock) -> None:
    row = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=LATER)
    clock.move_to(LATER + timedelta(days=3))
    with registry_override():
        fire(kernel)

    assert after(row)[0] == "PENDING"
    clock.advance(MINUTE)
    assert fire(kernel) == 1


def test_a_workflow_that_only_other_workers_have_is_left_to_them(kernel: Kernel, clock: FakeClock) -> None:
    row = schedule(CreateRun(workflow_id="nightly", input=INPUT), run_at=LATER)
    clock.move_to(LATER)
    kernel.dispatch(Beat(worker=worker({"nightly": ["sweep"]}), running={}))
    with registry_override():
        assert fire(kernel) == 0
        assert (after(row)[0], row.error, row.due_at) == ("PENDING", "", LATER)

    assert fire(kernel) == 1


def test_a_run_that_was_deleted_meanwhile_is_said(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    row = schedule(CancelRun(run_id=run.pk), run_at=LATER)
    WorkflowRun.objects.all().delete()

    clock.move_to(LATER)
    fire(kernel)

    assert after(row)[0] == "DEAD"
    assert "No run" in row.error


def test_a_cancel_of_a_run_that_has_ended_is_carried_out_and_says_that_it_was_nothing(
    kernel: Kernel, clock: FakeClock, run: WorkflowRun
) -> None:
    row = schedule(CancelRun(run_id=run.pk), run_at=LATER)
    cancel_run(run)

    clock.move_to(LATER)

    assert fire(kernel) == 1
    assert after(row) == ("FIRED", {"cancelled": False})


def test_the_database_refuses_two_pending_commands_of_one_id(kernel: Kernel, run: WorkflowRun) -> None:
    row = schedule(CancelRun(run_id=run.pk), run_at=LATER, correlation_id="order-7")
    row.pk = uuid.uuid4()

    with pytest.raises(IntegrityError), transaction.atomic():
        ScheduledCommand.objects.bulk_create([row])


def test_a_row_that_somebody_has_broken_is_given_up(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    rows = [schedule(CancelRun(run_id=run.pk), run_at=LATER) for _ in range(2)]
    ScheduledCommand.objects.filter(pk=rows[0].pk).update(command="run.destroy")
    ScheduledCommand.objects.filter(pk=rows[1].pk).update(payload={"run": 7})

    clock.move_to(LATER)
    fire(kernel)

    assert [after(row)[0] for row in rows] == ["DEAD", "DEAD"]
    assert "run_id" in rows[1].error


@pytest.mark.django_db(transaction=True)
def test_a_time_that_is_over_is_done_with_the_next_look(kernel: Kernel, clock: FakeClock, run: WorkflowRun) -> None:
    schedule(CancelRun(run_id=run.pk), run_at=utc("2020-01-01 00:00"))

    assert not connection.in_atomic_block
    assert kernel.ports.transport.pushed  # type: ignore[attr-defined]
    assert fire(kernel) == 1
