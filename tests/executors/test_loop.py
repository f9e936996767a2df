"""Bodies on one event loop: real time, short deadlines, waiting on conditions only."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from tests.executors.conftest import Start
from tests.executors.running import Answers, error_of, run_on, value_of
from tests.waiting import until
from workflow_engine.blobs.memory import InMemoryBlobStore
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Retry, RunCancelledError, StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.results import Completed, Failed
from workflow_engine.executors.held import Held
from workflow_engine.executors.loop import ORM_THREADS, LoopExecutor
from workflow_engine.executors.recorder import Recorder
from workflow_engine.kernel import points
from workflow_engine.kernel.started import InputReference
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 1_000
Context = StageContext[dict[str, Any]]


def flow(body: Any, **options: Any) -> Workflow[Any, Any]:
    retry = Retry(max_attempts=2, initial=timedelta(seconds=7), jitter=0)
    return define_workflow("w", input=dict[str, Any]).pipe(stage("one", retry=retry, **options)(body)).build()


@contextmanager
def crash_at(point: str) -> Iterator[None]:
    before = points.install(points.hook_from(f"{point}:1:raise"))
    try:
        yield
    finally:
        points.install(before)


def test_a_thousand_waiting_bodies_run_at_the_same_time(loop: LoopExecutor, start: Start, answers: Answers) -> None:
    inside, most = 0, 0

    async def waits(ctx: Context) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(1)
        inside -= 1
        return ctx.attempt

    started = start(flow(waits))
    many = [Held(replace(started, attempt=number)) for number in range(MANY)]
    for held in many:
        loop.submit(held, answers)
    until(lambda: len(answers.all) == MANY, "all have ended")

    assert most == MANY
    assert sorted(value_of(result) for _, result in answers.all) == list(range(MANY))  # type: ignore[type-var]
    assert len({id(held) for held, _ in answers.all}) == MANY
    assert answers.threads == {"wfe-loop"}
    assert loop.stalled_for() == 0


def test_a_body_is_cancelled_at_its_deadline_and_may_tidy_up(loop: LoopExecutor, start: Start) -> None:
    seen: list[str] = []

    async def hangs(ctx: Context) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            try:
                ctx.log.info("not kept")
            except RunCancelledError as error:
                seen.append(str(error))
            raise

    held = Held(start(flow(hangs, timeout=timedelta(seconds=0.1))))
    result = run_on(loop, held)

    assert error_of(result) == ("TIMEOUT", "TimeoutError", "the body took longer than its timeout of 0:00:00.100000")
    assert isinstance(result, Failed)
    assert (result.retry_in, result.error.traceback) == (timedelta(seconds=7), "")
    assert seen == ["stage 'one': the body took longer than its timeout"]
    assert held.timed_out


def test_the_deadline_of_the_host_counts(loop: LoopExecutor, start: Start) -> None:
    async def hangs(ctx: Context) -> None:
        await asyncio.sleep(600)

    held = Held(start(flow(hangs, timeout=timedelta(hours=1))), deadline=time.monotonic() + 0.1)

    assert error_of(run_on(loop, held))[0] == "TIMEOUT"


def test_a_body_that_swallows_its_cancellation_and_returns_late_has_timed_out(loop: LoopExecutor, start: Start) -> None:
    async def swallows(ctx: Context) -> str:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
        return "late"

    result = run_on(loop, Held(start(flow(swallows, timeout=timedelta(seconds=0.1)))))

    assert error_of(result)[0] == "TIMEOUT"
    assert loop.zombies == 0


def test_the_end_of_a_body_that_cannot_be_cancelled_is_told_without_it(loop: LoopExecutor, start: Start) -> None:
    leave = threading.Event()

    async def stubborn(ctx: Context) -> None:
        while not leave.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    held = Held(start(flow(stubborn, timeout=timedelta(seconds=0.1))))
    answers = Answers()
    loop.submit(held, answers)

    assert error_of(answers.of(held))[0] == "TIMEOUT"
    until(lambda: loop.zombies == 1, "it is counted as a zombie")
    leave.set()
    until(lambda: loop.zombies == 0, "the zombie has ended")
    assert len(answers.all) == 1


def test_a_lost_attempt_is_cancelled_at_its_next_await_and_others_are_not(loop: LoopExecutor, start: Start) -> None:
    entered, tidied, leave = threading.Event(), threading.Event(), threading.Event()

    async def waits(ctx: Context) -> str:
        entered.set()
        try:
            while not leave.is_set():
                await asyncio.sleep(0.01)
        finally:
            tidied.set()
        return "done"

    lost = Held(start(flow(waits)))
    other = Held(lost.stage)
    answers = Answers()
    loop.submit(lost, answers)
    loop.submit(other, answers)
    assert entered.wait(30)
    lost.lost.set()
    loop.cancel(lost)

    result = answers.of(lost)
    assert error_of(result)[1] == "RunCancelledError"
    assert isinstance(result, Failed)
    assert result.retry_in is None
    assert tidied.is_set()
    leave.set()
    assert value_of(answers.of(other)) == "done"


def test_an_attempt_that_is_lost_before_its_first_step_never_begins(loop: LoopExecutor, start: Start) -> None:
    entered: list[Any] = []
    go = threading.Event()

    async def blocks(ctx: Context) -> None:
        go.wait(30)

    async def enters(ctx: Context) -> None:
        entered.append(ctx)

    blocking = Held(start(flow(blocks)))
    answers = Answers()
    loop.submit(blocking, answers)
    until(lambda: loop.blocker() is blocking, "the loop is blocked")
    with_other_body = define_workflow("other", input=dict[str, Any]).pipe(stage("one")(enters)).build()
    held = Held(start(with_other_body))
    loop.submit(held, answers)
    loop.cancel(held)
    go.set()

    assert error_of(answers.of(held))[1] == "RunCancelledError"
    assert entered == []


def test_a_stalled_loop_is_noticed_and_its_attempts_can_be_abandoned(loop: LoopExecutor, start: Start) -> None:
    leave = threading.Event()

    async def never_yields(ctx: Context) -> None:
        leave.wait(60)

    started = start(flow(never_yields))
    blocking, waiting = Held(started), Held(started)
    answers = Answers()
    loop.submit(blocking, answers)
    until(lambda: loop.stalled_for() > 0.5, "the loop is seen to stall")
    loop.submit(waiting, answers)

    assert loop.blocker() is blocking
    assert loop.abandon(blocking)
    assert not loop.abandon(blocking)
    assert loop.stalled_for() > 0.5
    leave.set()
    answers.of(waiting)
    assert [held for held, _ in answers.all] == [waiting]
    assert loop.stalled_for() == 0


def test_an_attempt_whose_end_was_told_cannot_be_abandoned(loop: LoopExecutor, start: Start) -> None:
    async def ends(ctx: Context) -> None:
        pass

    held = Held(start(flow(ends)))
    run_on(loop, held)

    assert not loop.abandon(held)


def test_stopping_cancels_what_still_runs_and_tells_nobody(recorder: Recorder, start: Start, answers: Answers) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def waits(ctx: Context) -> None:
        await WorkflowRun.objects.acount()
        entered.set()
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()

    loop = LoopExecutor(get_kernel().ports, recorder)
    loop.start()
    held = Held(start(flow(waits)))
    loop.submit(held, answers)
    assert entered.wait(30)

    loop.stop()

    assert cancelled.is_set()
    assert answers.all == []
    with pytest.raises(RuntimeError, match="has been stopped"):
        loop.submit(held, answers)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wfe-loop")]


def test_a_loop_that_was_never_started_can_be_stopped(recorder: Recorder) -> None:
    loop = LoopExecutor(get_kernel().ports, recorder)
    loop.stop()

    assert loop._loop.is_closed()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wfe-loop")]


def test_a_task_of_a_body_that_exits_does_not_end_the_loop(loop: LoopExecutor, start: Start) -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def delegates(ctx: Context) -> str:
        try:
            await asyncio.create_task(exits())
        except SystemExit:
            return "caught"
        return "not caught"

    started = start(flow(delegates))

    assert [value_of(run_on(loop, Held(started))) for _ in range(2)] == ["caught"] * 2


def test_a_simulated_death_is_not_told_as_a_result(loop: LoopExecutor, start: Start, answers: Answers) -> None:
    async def ends(ctx: Context) -> str:
        return "ended"

    started = start(flow(ends))
    dies, lives = Held(started), Held(started)
    with crash_at(points.EXEC_RETURNED):
        loop.submit(dies, answers)
        loop.submit(lives, answers)
        answers.of(lives)

    assert [held for held, _ in answers.all] == [lives]
    assert not loop.abandon(dies)


def test_each_body_has_variables_and_a_name_of_its_own(loop: LoopExecutor, start: Start, answers: Answers) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def sets(ctx: Context) -> list[Any]:
        before = variable.get()
        variable.set(7)
        await asyncio.sleep(0.01)
        task = asyncio.current_task()
        return [before, task.get_name() if task else ""]

    started = start(flow(sets))
    both = [Held(started), Held(started)]
    for held in both:
        loop.submit(held, answers)

    assert [value_of(answers.of(held)) for held in both] == [[0, f"one {str(started.run_id)[-8:]}"]] * 2


def test_blobs_are_read_and_written_beside_the_loop(recorder: Recorder, start: Start) -> None:
    threads: list[str] = []

    class Watched(InMemoryBlobStore):
        def put(self, key: str, data: bytes) -> str:
            threads.append(threading.current_thread().name)
            return super().put(key, data)

        def get(self, key: str) -> bytes:
            threads.append(threading.current_thread().name)
            return super().get(key)

    async def echoes(ctx: Context) -> dict[str, Any]:
        return ctx.input

    ports = replace(get_kernel().ports, blobs=Watched())
    started = start(flow(echoes))
    loop = LoopExecutor(ports, Recorder(ports))
    loop.start()
    try:
        small = run_on(loop, Held(started))
        assert threads == []
        written = run_on(loop, Held(replace(started, input=_large())))
        assert isinstance(written, Completed)
        again = run_on(loop, Held(replace(started, input=InputReference({"input": written.output}))))
    finally:
        loop.stop()

    assert value_of(small) == {}
    assert again == written
    assert threads == ["wfe-loop-call"] * 3


def _large() -> InputReference:
    return InputReference({"input": {"json": '{"text": "%s"}' % ("x" * 100_000)}})


def test_what_a_body_leaves_of_a_connection_harms_no_other(loop: LoopExecutor, start: Start, answers: Answers) -> None:
    async def is_messy(ctx: Context) -> None:
        await sync_to_async(_leave_a_mess)()

    async def is_clean(ctx: Context) -> list[Any]:
        return [await sync_to_async(lambda: connection.in_atomic_block)(), await WorkflowRun.objects.acount()]

    messy = start(flow(is_messy))
    for _ in range(ORM_THREADS):
        run_on(loop, Held(messy))
    clean = start(define_workflow("clean", input=dict[str, Any]).pipe(stage("one")(is_clean)).build())
    many = [Held(clean) for _ in range(3 * ORM_THREADS)]
    for held in many:
        loop.submit(held, answers)

    assert [value_of(answers.of(held)) for held in many] == [[False, 2]] * len(many)


def _leave_a_mess() -> None:
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("no such statement")
