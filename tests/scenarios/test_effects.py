"""Effects of stages: what is done once, what is written exactly if a stage completes, and what is rolled back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from tests.hosts.test_worker import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import create_run, rerun_from
from workflow_engine.definitions import Completion, Retry, StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageAttempt, StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

NOW = Retry(max_attempts=3, initial=timedelta(0))
SHORT = timedelta(seconds=5)


def names() -> list[str]:
    return list(Group.objects.order_by("name").values_list("name", flat=True))


def only(body: Any, **options: Any) -> Any:
    """Return a workflow of one stage."""
    return define_workflow("effects").pipe(stage("effect", retry=NOW, **options)(body)).build()


def test_a_sub_step_that_succeeded_is_not_done_again_by_the_next_attempt(known: Any, host: InlineHost) -> None:
    charged = []

    def charge() -> dict[str, Any]:
        charged.append("charged")
        return {"id": "ch-1", "at": datetime(2026, 1, 1, tzinfo=UTC)}

    def body(ctx: StageContext[None]) -> str:
        charge_id: str = ctx.once("charge", charge)["id"]
        if ctx.attempt < 3:
            raise ConnectionError("later")
        return charge_id

    run = create_run(known(only(body)))
    while host.drain():
        pass

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.get_output()) == ("COMPLETED", "ch-1")
    assert charged == ["charged"]
    assert StageRun.objects.get().attempt == 3
    assert StageMemo.objects.get().get_value() == {"id": "ch-1", "at": "2026-01-01T00:00:00Z"}
    check_all()


def test_a_sub_step_that_raises_is_done_again(known: Any, host: InlineHost) -> None:
    calls: list[int] = []

    def body(ctx: StageContext[None]) -> int:
        def once() -> int:
            calls.append(ctx.attempt)
            if ctx.attempt == 1:
                raise ConnectionError("no answer")
            return ctx.attempt

        return ctx.once("ask", once)

    create_run(known(only(body)))
    host.drain()

    assert calls == [1, 2]
    assert StageMemo.objects.get().get_value() == 2


def test_a_rerun_does_its_sub_steps_and_effects_again(known: Any, host: InlineHost) -> None:
    charged: list[int] = []

    def body(ctx: StageContext[None]) -> None:
        ctx.once("charge", lambda: charged.append(ctx.generation))
        ctx.on_complete(lambda: Group.objects.create(name=f"generation {ctx.generation}"))

    run = create_run(known(only(body)))
    host.drain()
    rerun_from(run, "effect")
    host.drain()

    assert (charged, names()) == ([0, 1], ["generation 0", "generation 1"])
    assert StageMemo.objects.count() == 2
    check_all()


def test_an_effect_is_written_exactly_if_the_stage_completes(known: Any, host: InlineHost) -> None:
    seen: list[tuple[bool, str]] = []

    def body(ctx: StageContext[None]) -> str:
        def write() -> None:
            seen.append((connection.in_atomic_block, StageRun.objects.get().status))
            Group.objects.create(name=f"attempt {ctx.attempt}")

        ctx.on_complete(write)
        ctx.on_complete(lambda: Group.objects.create(name="second"))
        if ctx.attempt == 1:
            raise ConnectionError("after it was asked for")
        return "done"

    run = create_run(known(only(body)))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"
    assert names() == ["attempt 2", "second"]
    assert seen == [(True, "COMPLETED")]
    check_all()


def test_an_effect_that_raises_fails_the_attempt_with_its_own_error_and_keeps_nothing(
    known: Any, host: InlineHost
) -> None:
    def body(ctx: StageContext[None]) -> str:
        ctx.annotate("tried", ctx.attempt)
        ctx.on_complete(lambda: Group.objects.create(name=f"attempt {ctx.attempt}"))

        def check() -> None:
            if ctx.attempt < 3:
                raise LookupError(f"no stock for attempt {ctx.attempt}")

        ctx.on_complete(check)
        return "done"

    run = create_run(known(only(body)))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"
    assert names() == ["attempt 3"]
    attempts = StageAttempt.objects.order_by("attempt").values_list("outcome", "error_class", "error_message")
    assert list(attempts) == [
        ("retrying", "LookupError", "no stock for attempt 1"),
        ("retrying", "LookupError", "no stock for attempt 2"),
        ("completed", "", ""),
    ]
    assert list(run.annotations.order_by("attempt").values_list("value", flat=True)) == [1, 2, 3]
    check_all()


def test_an_effect_may_start_another_run_in_the_same_transaction(known: Any, host: InlineHost) -> None:
    @stage("first")
    def first(ctx: StageContext[None]) -> str:
        ctx.on_complete(lambda: create_run("other"))
        return "first"

    @stage("other")
    def other(ctx: StageContext[None]) -> str:
        return "other"

    known(define_workflow("one").pipe(first).build(), define_workflow("other").pipe(other).build())
    create_run("one")
    host.drain()

    assert sorted(WorkflowRun.objects.values_list("workflow", "status")) == [
        ("one", "COMPLETED"),
        ("other", "COMPLETED"),
    ]
    check_all()


def test_what_an_atomic_body_writes_commits_with_its_completion(known: Any, host: InlineHost) -> None:
    inside: list[bool] = []

    def body(ctx: StageContext[None]) -> str:
        inside.append(connection.in_atomic_block)
        Group.objects.create(name=f"attempt {ctx.attempt}")
        ctx.log.info("written")
        ctx.progress(50)
        if ctx.attempt == 1:
            raise ConnectionError("after the write")
        return "done"

    run = create_run(known(only(body, atomic=True, timeout=SHORT)))
    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.get_output()) == ("COMPLETED", "done")
    assert names() == ["attempt 2"]
    assert inside == [True, True]
    assert list(StageAttempt.objects.order_by("attempt").values_list("outcome", flat=True)) == ["retrying", "completed"]
    assert run.logs.count() == 2
    check_all()


def test_an_atomic_stage_goes_on_to_the_next_and_its_effects_are_called_too(known: Any, host: InlineHost) -> None:
    @stage("book", atomic=True, timeout=SHORT)
    def book(ctx: StageContext[None]) -> str:
        Group.objects.create(name="booked")
        ctx.on_complete(lambda: Group.objects.create(name="at its end"))
        return "x" * 100_000

    @stage("tell")
    def tell(ctx: StageContext[str]) -> int:
        return len(ctx.input)

    run = create_run(known(define_workflow("w").pipe(book).pipe(tell).build()))
    host.drain()

    assert WorkflowRun.objects.select_related("data").get(pk=run.pk).get_output() == 100_000
    assert names() == ["at its end", "booked"]
    check_all()


@pytest.mark.parametrize("atomic", [False, True])
def test_a_body_that_waits_has_no_effects_until_it_completes(
    known: Any, host: InlineHost, clock: FakeClock, atomic: bool
) -> None:
    def body(ctx: StageContext[None]) -> int:
        if atomic:
            Group.objects.create(name="written")
        ctx.on_complete(lambda: Group.objects.create(name="completed"))
        ctx.sleep(timedelta(hours=1))
        return ctx.attempt

    run = create_run(known(only(body, **({"atomic": True, "timeout": SHORT} if atomic else {}))))
    host.drain()
    assert (StageRun.objects.get().status, names()) == ("SUSPENDED", [])
    clock.advance(timedelta(hours=1))
    host.drain()

    run.refresh_from_db()
    assert (run.status, names()) == ("COMPLETED", ["completed", "written"] if atomic else ["completed"])
    check_all()


def test_what_was_done_before_a_wait_is_not_done_after_it(known: Any, host: InlineHost, clock: FakeClock) -> None:
    sent: list[int] = []

    def body(ctx: StageContext[None]) -> int:
        ctx.once("send", lambda: sent.append(ctx.attempt))
        ctx.sleep(timedelta(hours=1))
        return ctx.once("read", lambda: ctx.attempt)

    run = create_run(known(only(body)))
    host.drain()
    clock.advance(timedelta(hours=1))
    host.drain()

    run.refresh_from_db()
    assert (run.get_output(), sent) == (2, [1])
    check_all()


@pytest.mark.parametrize("tool", ["once", "on_complete"])
def test_a_completion_check_has_no_effects_of_its_own(
    known: Any, host: InlineHost, clock: FakeClock, tool: str
) -> None:
    @stage("submit", check_retry=Retry(max_attempts=1))
    def submit(ctx: StageContext[None]) -> int:
        ctx.suspend(poll_every=timedelta(seconds=1))

    @submit.check_completion
    def check(ctx: StageContext[None], state: Any) -> Completion[int]:
        if tool == "once":
            ctx.once("step", lambda: 1)
        else:
            ctx.on_complete(lambda: Group.objects.create(name="never"))
        return Completion.ready(1)

    run = create_run(known(define_workflow("w").pipe(submit).build()))
    host.drain()
    clock.advance(timedelta(seconds=1))
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("FAILED", "INVALID_DEFINITION")
    assert f"{tool} belongs into the body" in run.error["message"]
    assert names() == []


BROKEN: dict[str, Any] = {
    "closes its connection": lambda: connection.close(),
    "says that it must roll back": lambda: transaction.set_rollback(True),
    "leaves a block open": lambda: transaction.atomic().__enter__(),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["atomic body", "effect"])
def test_what_a_body_has_planned_for_after_the_commit_cannot_undo_it(known: Any, where: str) -> None:
    def body(ctx: StageContext[None]) -> str:
        def write() -> None:
            Group.objects.create(name="written")
            transaction.on_commit(lambda: 1 / 0)

        write() if where == "atomic body" else ctx.on_complete(write)
        return "done"

    @stage("after")
    def after(ctx: StageContext[str]) -> str:
        return ctx.input

    options: dict[str, Any] = {"atomic": True, "timeout": SHORT} if where == "atomic body" else {}
    known(define_workflow("w").pipe(stage("effect", retry=NOW, **options)(body)).pipe(after).build())
    run = create_run("w")
    with working():
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    assert (status_of(run), names()) == ("COMPLETED", ["written"])
    assert list(StageAttempt.objects.order_by("id").values_list("outcome", flat=True)) == ["completed", "completed"]
    check_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("break_it", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("where", ["atomic body", "effect"])
def test_who_breaks_the_transaction_has_failed(known: Any, break_it: Any, where: str) -> None:
    """In a worker: its thread gives up a connection that a body left open."""

    def spoil(attempt: int) -> None:
        Group.objects.create(name=f"attempt {attempt}")
        if attempt == 1:
            break_it()

    def atomic(ctx: StageContext[None]) -> None:
        spoil(ctx.attempt)

    def effect(ctx: StageContext[None]) -> None:
        ctx.on_complete(lambda: spoil(ctx.attempt))

    body, options = (atomic, {"atomic": True, "timeout": SHORT}) if where == "atomic body" else (effect, {})
    run = create_run(known(only(body, **options)))
    with working():
        until(lambda: status_of(run) in ("COMPLETED", "FAILED"), "the run has ended")

    assert status_of(run) == "COMPLETED"
    assert names() == ["attempt 2"]
    assert StageAttempt.objects.get(outcome="retrying").error_class == "TransactionManagementError"
    check_all()
