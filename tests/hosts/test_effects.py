"""Effects and atomic stages in a worker: whose thread finishes them, who waits for whom, and what a ghost leaves."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from tests.hosts.test_worker import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.executors.recorder import Recorder
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
NOW = Retry(max_attempts=3, initial=timedelta(0))
SHORT = timedelta(seconds=10)


def only(body: Any, **options: Any) -> Workflow[Any, Any]:
    return define_workflow("effects").pipe(stage("effect", **{"retry": NOW, **options})(body)).build()


def ended(run: WorkflowRun) -> bool:
    return status_of(run) not in ("PENDING", "RUNNING")


def add(name: str) -> None:
    Group.objects.create(name=f"{name} {uuid.uuid4()}")


def count(name: str) -> int:
    return Group.objects.filter(name__startswith=name).count()


def test_effects_are_called_in_the_thread_of_the_body(known: Any) -> None:
    threads: list[threading.Thread] = []

    def body(ctx: StageContext[None]) -> None:
        threads.append(threading.current_thread())
        ctx.on_complete(lambda: threads.append(threading.current_thread()))
        ctx.on_complete(lambda: add("effect"))

    run = create_run(known(only(body)))
    with working():
        until(lambda: ended(run), "the run has ended")

    assert (status_of(run), count("effect")) == ("COMPLETED", 1)
    assert len(threads) == 2
    assert threads[0] is threads[1]
    check_all()


def test_effects_of_async_bodies_are_called_in_a_thread_of_the_pool(known: Any) -> None:
    threads: list[str] = []

    @stage("effect", retry=NOW)
    async def effect(ctx: StageContext[None]) -> str:
        def write() -> None:
            threads.append(threading.current_thread().name)
            add("effect")

        ctx.on_complete(write)
        return "x"

    @stage("after")
    async def after(ctx: StageContext[str]) -> str:
        return ctx.input + "y"

    run = create_run(known(define_workflow("w").pipe(effect).pipe(after).build()))
    with working():
        until(lambda: ended(run), "the run has ended")

    assert (status_of(run), count("effect")) == ("COMPLETED", 1)
    assert not {"wfe-loop", "wfe-finish"} & set(threads)
    check_all()


def test_a_slow_effect_holds_up_nobody_else(known: Any, backend: str) -> None:
    entered, leave = threading.Event(), threading.Event()

    def body(ctx: StageContext[None]) -> None:
        def slow() -> None:
            entered.set()
            # SQLite has one writer: there everybody waits for an open transaction.
            if backend != "sqlite":
                leave.wait(30)

        ctx.on_complete(slow)

    known(only(body), chain(3))
    slow_run = create_run("effects")
    with working():
        assert entered.wait(30)
        other = create_run("chain", {"value": 1})
        until(lambda: ended(other), "the other run has ended")
        leave.set()
        until(lambda: ended(slow_run), "the slow one has ended")

    assert status_of(slow_run) == status_of(other) == "COMPLETED"
    check_all()


@pytest.mark.parametrize("atomic", [False, True])
def test_a_cancelled_attempt_has_no_effects(known: Any, backend: str, atomic: bool) -> None:
    entered, leave = threading.Event(), threading.Event()

    def body(ctx: StageContext[None]) -> None:
        ctx.on_complete(lambda: add("effect"))
        if not (atomic and backend == "sqlite"):
            entered.set()
            leave.wait(30)
        else:
            # Nobody else can write until the body ends.
            cancel_run(ctx.run_id)
        if atomic:
            add("written")

    run = create_run(known(only(body, **({"atomic": True, "timeout": SHORT} if atomic else {}))))
    with working():
        if not (atomic and backend == "sqlite"):
            assert entered.wait(30)
            assert cancel_run(run)
            leave.set()
            until(lambda: not StageRun.objects.filter(status="RUNNING").exists(), "nothing runs")
        else:
            until(lambda: StageRun.objects.filter(attempt__gte=1).exists(), "the body was entered")

    if not (atomic and backend == "sqlite"):
        assert status_of(run) == "CANCELLED"
    assert count("effect") == count("written") == 0


def test_others_see_what_an_atomic_body_tells_and_not_what_it_writes(known: Any, backend: str) -> None:
    entered, leave = threading.Event(), threading.Event()
    inside: list[bool] = []

    def body(ctx: StageContext[None]) -> None:
        inside.append(connection.in_atomic_block)
        add("written")
        ctx.progress(40, "half-way")
        entered.set()
        leave.wait(30)

    run = create_run(known(only(body, atomic=True, timeout=SHORT)))
    with working():
        assert entered.wait(30)
        assert count("written") == 0
        if backend != "sqlite":
            until(lambda: StageRun.objects.get().progress, "the progress is seen while the body runs")
        leave.set()
        until(lambda: ended(run), "the run has ended")

    assert (status_of(run), count("written"), inside) == ("COMPLETED", 1, [True])
    check_all()


def test_lines_are_never_written_inside_the_transaction_of_a_body(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []
    flush = Recorder.flush

    def flushed(recorder: Recorder) -> None:
        inside.append(connection.in_atomic_block)
        flush(recorder)

    monkeypatch.setattr(Recorder, "flush", flushed)

    def body(ctx: StageContext[None]) -> None:
        ctx.log.info("line")
        raise ConnectionError("a body that fails keeps its lines")

    run = create_run(known(only(body, atomic=True, timeout=SHORT)))
    with working():
        until(lambda: ended(run), "the run has ended")

    assert run.logs.count() == 3
    assert set(inside) == {False}


def test_an_atomic_body_over_its_time_is_rolled_back(known: Any) -> None:
    def body(ctx: StageContext[None]) -> None:
        add("written")
        while True:
            ctx.raise_if_cancelled()
            threading.Event().wait(0.02)

    run = create_run(known(only(body, atomic=True, timeout=timedelta(seconds=0.3), retry=Retry(max_attempts=1))))
    with working():
        until(lambda: ended(run), "the run has ended")

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.error["code"], count("written")) == ("FAILED", "TIMEOUT", 0)
    check_all()


def test_an_atomic_body_without_a_bound_is_refused_on_sqlite_only(known: Any, backend: str) -> None:
    def body(ctx: StageContext[None]) -> None:
        add("written")

    run = create_run(known(only(body, atomic=True)))
    with working():
        until(lambda: ended(run), "the run has ended")

    run = WorkflowRun.objects.get(pk=run.pk)
    if backend == "sqlite":
        assert (run.status, run.error["code"], count("written")) == ("FAILED", "INVALID_DEFINITION", 0)
        assert "needs a timeout below half of LEASE_SECONDS, so below 15 s" in run.error["message"]
        assert StageAttempt.objects.count() == 1
    else:
        assert (run.status, count("written")) == ("COMPLETED", 1)
