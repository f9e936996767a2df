"""Results of sub-steps: stored once, read by one query, refused where they cannot be kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pydantic import BaseModel

from tests.executors.conftest import Start
from tests.executors.running import error_of, run_on, value_of
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.results import Completed, Failed, Result
from workflow_engine.executors.held import Held
from workflow_engine.executors.loop import LoopExecutor
from workflow_engine.executors.processes import ProcessExecutor
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import ThreadExecutor
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands import FinishStages, Outcome
from workflow_engine.models import StageMemo

pytestmark = pytest.mark.django_db(transaction=True)


class Charge(BaseModel):
    id: str
    at: datetime


def only(body: Any, **options: Any) -> Workflow[Any, Any]:
    made = stage("remembers", **options)(body)
    return define_workflow("remembers", input=dict[str, Any]).pipe(made).build()


@pytest.fixture
def run(start: Start, recorder: Recorder) -> Any:
    """Return a function that runs a body in this thread."""

    def run(body: Any, **options: Any) -> Result:
        return ThreadExecutor(get_kernel().ports, recorder).run(Held(start(only(body, **options))))

    return run


def test_a_result_is_what_its_type_reads_back(run: Any) -> None:
    charge = Charge(id="c", at=datetime(2026, 1, 1, tzinfo=UTC))

    def make() -> Charge:
        return charge

    def body(ctx: StageContext[dict[str, Any]]) -> list[str]:
        first, again = ctx.once("annotated", make), ctx.once("annotated", make)
        plain = ctx.once("plain", lambda: charge)
        given = ctx.once("given", lambda: [charge], returns=list[Charge])
        return [type(value).__name__ for value in (first, again, plain, given[0])]

    assert value_of(run(body)) == ["Charge", "Charge", "dict", "Charge"]


def test_the_first_function_of_a_name_counts(run: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> list[int]:
        return [ctx.once("name", lambda: 1), ctx.once("name", lambda: 2)]

    assert value_of(run(body)) == [1, 1]


def test_falsy_results_count_as_results(run: Any) -> None:
    calls: list[str] = []

    def body(ctx: StageContext[dict[str, Any]]) -> list[Any]:
        return [ctx.once("nothing", lambda: calls.append("called")) for _ in range(3)]

    assert value_of(run(body)) == [None, None, None]
    assert calls == ["called"]


def test_memos_are_read_by_one_query(run: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> int:
        with CaptureQueriesContext(connection) as queries:
            for number in range(5):
                ctx.once(f"step {number}", lambda: 1)
                ctx.once(f"step {number}", lambda: 2)
        table = StageMemo._meta.db_table
        # Each result is looked for once more where it is stored, under the row's lock.
        return len([1 for query in queries if query["sql"].startswith("SELECT") and table in query["sql"]])

    assert value_of(run(body)) == 1 + 5


def test_a_large_result_lies_in_the_blob_store(run: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> int:
        return len(ctx.once("large", lambda: "x" * 100_000))

    assert value_of(run(body)) == 100_000
    memo = StageMemo.objects.get()
    assert memo.value["blob"].split("/")[-1].startswith("once-")
    assert memo.get_value() == "x" * 100_000


@pytest.mark.parametrize("value", [float("nan"), {1: object()}, "\x00", {"deep": float("inf")}])
def test_a_result_that_is_no_json_fails_the_stage_and_is_not_stored(run: Any, value: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.once("bad", lambda: value)

    code, kind, message = error_of(run(body))

    assert (code, kind) == ("INVALID_PAYLOAD", "InvalidPayload")
    assert message.startswith("once 'bad': ")
    assert not StageMemo.objects.exists()


@pytest.mark.parametrize("name", ["", "x" * 101, 3, "a\x00b"])
def test_a_name_is_text_of_1_to_100_characters(run: Any, name: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.once(name, lambda: 1)

    code, _, message = error_of(run(body))

    assert code == "INVALID_INPUT"
    assert "name: must be text of 1 to 100 characters" in message


def test_an_attempt_that_was_lost_stores_nothing_and_ends(start: Start, recorder: Recorder) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.once("late", lambda: cancel_run(ctx.run_id))

    held = Held(start(only(body)))
    result = ThreadExecutor(get_kernel().ports, recorder).run(held)

    assert error_of(result)[1] == "RunCancelledError"
    assert held.lost.is_set()
    assert not StageMemo.objects.exists()


def test_what_a_body_rolls_back_is_not_remembered(run: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> int:
        try:
            with transaction.atomic():
                ctx.once("step", lambda: 1)
                raise LookupError
        except LookupError:
            return ctx.once("step", lambda: 2)

    assert value_of(run(body)) == 2
    assert StageMemo.objects.get().get_value() == 2


def test_async_bodies_remember_too(start: Start, loop: LoopExecutor) -> None:
    async def ask() -> int:
        return 1

    async def body(ctx: StageContext[dict[str, Any]]) -> list[int]:
        return [await ctx.aonce("ask", ask), await ctx.aonce("ask", ask)]

    assert value_of(run_on(loop, Held(start(only(body))))) == [1, 1]
    assert StageMemo.objects.get().get_value() == 1


def test_a_plain_call_in_an_async_body_is_refused_before_anything_is_done(start: Start, loop: LoopExecutor) -> None:
    calls: list[str] = []

    async def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.once("step", lambda: calls.append("called"))

    code, _, message = error_of(run_on(loop, Held(start(only(body)))))

    assert code == "INVALID_DEFINITION"
    assert "await ctx.aonce('step', ...)" in message
    assert calls == []


def test_a_child_process_remembers_for_the_next_one(known: Any, processes: ProcessExecutor) -> None:
    from tests.executors.bodies import WORKFLOWS

    create_run(known(WORKFLOWS["remembers-its-process"]), {})
    host = InlineHost(get_kernel())
    (started,) = host.take()
    first = processes.run(Held(started))
    assert isinstance(first, Failed)
    again = Outcome(started, replace(first, retry_in=timedelta(0)), timedelta(0))
    get_kernel().dispatch(FinishStages(outcomes=(again,)))

    (started,) = host.take()
    second = processes.run(Held(started))

    assert error_of(first)[1] == "ConnectionError"
    assert value_of(second) == [1, 2]


def test_sub_steps_have_no_use_in_an_atomic_stage(run: Any) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.once("step", lambda: 1)

    code, _, message = error_of(run(body, atomic=True, timeout=timedelta(seconds=1)))

    assert code == "INVALID_DEFINITION"
    assert "Call the function itself." in message


async def _never() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda: None, {"isolation": "process"}, "functions do not cross processes"),
        (_never, {}, "a plain function without arguments"),
        (3, {}, "a plain function without arguments, got 3"),
    ],
)
def test_effects_that_cannot_be_called_in_the_end_are_refused(
    run: Any, function: Any, options: Any, words: str
) -> None:
    def body(ctx: StageContext[dict[str, Any]]) -> None:
        ctx.on_complete(function)

    code, _, message = error_of(run(body, **options))

    assert code == "INVALID_DEFINITION"
    assert words in message


def test_effects_are_handed_over_in_order(run: Any) -> None:
    functions = [lambda: 1, lambda: 2]

    def body(ctx: StageContext[dict[str, Any]]) -> None:
        for function in functions:
            ctx.on_complete(function)

    result = run(body)

    assert isinstance(result, Completed)
    assert result.notes.on_complete == tuple(functions)
