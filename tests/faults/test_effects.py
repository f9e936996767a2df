"""Effects happen exactly once: under kill -9 at each crash point, lost answers to COMMIT, conflicts and cancels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection

from tests.concurrency.threads import together
from tests.faults.test_database_faults import unanswered_commit
from tests.faults.workflows import write, written
from tests.invariants import check_all
from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.executors.held import Held
from workflow_engine.executors.memory import Memory
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands import Remember
from workflow_engine.models import StageAttempt, StageMemo, StageRun
from workflow_engine.models.payloads import inline
from workflow_engine.statuses import MemoKind
from workflow_engine.testing import create_test_kernel

pytestmark = pytest.mark.django_db(transaction=True)
NOW = Retry(max_attempts=3, initial=timedelta(0))
SHORT = timedelta(seconds=10)


def effects_of(kind: str) -> Workflow[Any, Any]:
    """Return a workflow whose first stage writes one row per attempt that counts, and whose second adds nothing."""

    def body(ctx: StageContext[None]) -> str:
        if kind == "atomic":
            write("effect")
        else:
            ctx.on_complete(lambda: write("effect"))
        return "done"

    options: dict[str, Any] = {"atomic": True, "timeout": SHORT} if kind == "atomic" else {}

    @stage("after")
    def after(ctx: StageContext[str]) -> str:
        return ctx.input

    first = stage("effect", retry=NOW, **options)(body)
    return define_workflow("effects").pipe(first).pipe(after).build()


@pytest.mark.parametrize("kind", ["atomic", "on_complete"])
@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_that_is_not_answered_has_its_effect_once_and_the_run_goes_on(
    known: Any, kind: str, landed: bool
) -> None:
    run = create_run(known(effects_of(kind)))
    host = InlineHost(get_kernel())
    (started,) = host.take(run.pk)

    with unanswered_commit(landed=landed):
        finished = host.execute(started)

    # What has effects only in its finish is finished again at once; a body that wrote is a failed attempt.
    counted = kind == "atomic" and not landed
    assert finished.kind == ("retrying" if counted else "completed")
    assert [item.stage_id for item in finished.next] == ([] if counted else ["after"])
    assert written("effect") == (0 if counted else 1)
    if counted:
        assert StageAttempt.objects.get().error_code == "ATOMIC_CONFLICT"
        assert StageRun.objects.get().failures == 1
        host.drain()
    else:
        host.execute(finished.next[0])

    run.refresh_from_db()
    assert (run.status, written("effect")) == ("COMPLETED", 1)
    check_all()


@pytest.mark.parametrize("kind", ["atomic", "on_complete"])
def test_a_conflict_at_the_finish_never_runs_an_atomic_body_twice_in_one_attempt(known: Any, kind: str) -> None:
    run = create_run(known(effects_of(kind)))
    host = InlineHost(get_kernel())
    (started,) = host.take(run.pk)
    lost: list[str] = []

    def conflict(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not lost and sql.startswith("UPDATE") and "stagerun" in sql:
            lost.append(sql)
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(conflict):
        finished = host.execute(started)

    assert lost
    assert finished.kind == ("retrying" if kind == "atomic" else "completed")
    host.drain()
    assert written("effect") == 1
    outcomes = list(StageAttempt.objects.filter(stage="effect").order_by("token").values_list("outcome", "error_code"))
    again = [("retrying", "ATOMIC_CONFLICT")] if kind == "atomic" else []
    assert outcomes == [*again, ("completed", "")]
    check_all()


@pytest.mark.parametrize("kind", ["atomic", "on_complete"])
def test_a_cancel_that_races_the_commit_leaves_all_or_nothing(known: Any, kind: str) -> None:
    known(effects_of(kind))
    won: Counter[str] = Counter()
    for _ in range(30):
        Group.objects.all().delete()
        run = create_run("effects")
        host = InlineHost(get_kernel())
        (started,) = host.take(run.pk)

        finished, cancelled = together([lambda h=host, s=started: h.execute(s), lambda r=run: cancel_run(r)])

        assert finished.kind in ("completed", "ghost")
        assert written("effect") == (1 if finished.kind == "completed" else 0)
        assert cancelled
        won[finished.kind] += 1

    check_all()
    assert won.total() == 30


def test_a_function_is_called_again_in_a_transaction_that_is_repeated(known: Any) -> None:
    calls: list[int] = []

    @stage("effect")
    def effect(ctx: StageContext[None]) -> None:
        def write_late() -> None:
            calls.append(len(calls))
            write("effect")
            if len(calls) < 3:
                raise OperationalError("database is locked")

        ctx.on_complete(write_late)

    with use_kernel(create_test_kernel()) as kernel:
        create_run(known(define_workflow("w").pipe(effect).build()))
        InlineHost(kernel).drain()

    assert (calls, written("effect")) == ([0, 1, 2], 1)
    assert list(StageAttempt.objects.values_list("outcome", flat=True)) == ["completed"]
    check_all()


@pytest.mark.parametrize("landed", [True, False])
def test_a_result_whose_commit_is_not_answered_is_kept_once(known: Any, landed: bool) -> None:
    known(chain(1))
    create_run("chain", {"value": 1})
    (started,) = InlineHost(get_kernel()).take()

    with unanswered_commit(landed=landed):
        result = create_test_kernel().dispatch(Remember(stage=started, name="charge", value=inline(1)))

    assert (result.stored, StageMemo.objects.get().get_value()) == (True, 1)


def test_two_threads_that_remember_one_name_get_one_value(known: Any) -> None:
    known(chain(1))
    for number in range(20):
        run = create_run("chain", {"value": 1})
        (started,) = InlineHost(get_kernel()).take(run.pk)

        def keep(value: int, held: Held = Held(started), name: str = f"name {number}") -> Any:  # noqa: B008 - its own
            memory = Memory(get_kernel().ports, held)
            return memory.value(memory.keep(MemoKind.ONCE, name, value))

        values = together([lambda k=keep, v=value: k(v) for value in range(4)])

        assert len(set(values)) == 1
        assert StageMemo.objects.get(run=run).get_value() == values[0]


def test_of_a_repeated_sub_step_only_the_last_try_is_kept_when_the_worker_died_before_it_was_stored(known: Any) -> None:
    calls: list[int] = []

    @stage("asks", retry=NOW)
    def asks(ctx: StageContext[None]) -> int:
        def ask() -> int:
            calls.append(ctx.attempt)
            return ctx.attempt

        return ctx.once("ask", ask)

    run = create_run(known(define_workflow("w").pipe(asks).build()))
    host = InlineHost(get_kernel())
    (started,) = host.take(run.pk)

    def lose(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and "stagememo" in sql and started.attempt == len(calls):
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    with use_kernel(create_test_kernel()), connection.execute_wrapper(lose):
        assert InlineHost(create_test_kernel()).execute(started).kind == "retrying"
    host.drain()

    # At least once until it is stored: that is what ``idempotency_token`` is for.
    assert calls == [1, 2]
    assert StageMemo.objects.get().get_value() == 2
