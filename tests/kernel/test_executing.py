from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.invariants import events
from tests.workflows import Broken, Number, add_stage, chain, failing, fan
from workflow_engine import create_run
from workflow_engine.definitions import (
    NonRetryableError,
    Retry,
    RetryAfter,
    RunCancelledError,
    StageContext,
    define_workflow,
    stage,
)
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import (
    FinishStages,
    Outcome,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import (
    OutboxEvent,
    StageAttempt,
    StageRun,
    WorkflowAnnotation,
    WorkflowArtifact,
    WorkflowLog,
    WorkflowRun,
)
from workflow_engine.testing import FakeClock


def test_a_chain_hands_each_output_to_the_next_stage(known: Any, host: InlineHost) -> None:
    run = create_run(known(chain(3)), {"value": 1}, config={"add-2": {"amount": 10}})

    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.get_output(), run.error) == ("COMPLETED", {"value": 13}, None)
    assert events(run) == ["run.created", "run.started", *["stage.started", "stage.completed"] * 3, "run.completed"]
    assert list(StageRun.objects.in_order().values_list("stage", "config")) == [
        ("add-1", {"amount": 1}),
        ("add-2", {"amount": 10}),
        ("add-3", {"amount": 1}),
    ]


def test_a_parallel_group_gets_one_input_and_gives_a_mapping(known: Any, host: InlineHost) -> None:
    run = create_run(known(fan(3)), {"value": 1}, config={"add-2": {"amount": 100}})

    host.drain()

    # first: 2; then 3, 102 and 3; total 108
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == {"value": 108}


def test_a_run_may_end_with_a_group_of_several(known: Any, host: InlineHost) -> None:
    parallel = define_workflow("w", input=Number).parallel(add_stage("add-1"), add_stage("add-2")).build()
    run = create_run(known(parallel), {"value": 1})

    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert run.get_output() == {"add_1": {"value": 2}, "add_2": {"value": 2}}
    assert OutboxEvent.objects.get(run=run, type="run.completed").payload["output"] == ["add-1", "add-2"]


@pytest.mark.parametrize("value", [0, "", False, None, [], {}])
def test_falsy_outputs_count_as_present(known: Any, host: InlineHost, value: Any) -> None:
    seen = []

    @stage("gives")
    def gives(ctx: StageContext[None]) -> Any:
        return value

    @stage("takes")
    def takes(ctx: StageContext[Any]) -> Any:
        seen.append((ctx.input, ctx.require(gives), ctx.optional("gives")))
        return ctx.input

    run = create_run(known(define_workflow("w").pipe(gives).pipe(takes).build()))
    host.drain()

    assert seen == [(value, value, value)]
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == value


def test_a_body_finds_everything_in_its_context(known: Any, host: InlineHost, clock: FakeClock) -> None:
    class Config(BaseModel):
        word: str = "default"

    seen: dict[str, Any] = {}

    @stage("look-around", name="Look around")
    def look(ctx: StageContext[Number, Config]) -> Number:
        seen.update(
            ids=(ctx.run_id, ctx.workflow_id, ctx.stage_id, ctx.stage_name, ctx.stage_number),
            attempt=(ctx.attempt, ctx.generation, ctx.item_index),
            config=ctx.config.word,
            metadata=ctx.metadata,
            now=ctx.now(),
            tokens=(ctx.idempotency_token, ctx.generation_token),
            subject=ctx.subject,
        )
        ctx.log.info("hello", password="hunter2", count=3)
        ctx.log.warning("odd \x00 \ud800", value=float("nan"))
        ctx.progress(40, "nearly", step=2)
        ctx.metric("rows", 12)
        ctx.annotate("decision.outcome", {"ok": True}, actor="bot", emit_event=True)
        ctx.annotate_many({"a": 1, "b": None})
        ctx.artifact("report.html", "<p>hi</p>")
        ctx.storage.save("page/1", {"n": 1})
        ctx.storage.save("raw", b"\x00\x01")
        seen["storage"] = (
            ctx.storage.load("page/1"),
            ctx.storage.load("raw"),
            ctx.storage.list(),
            ctx.storage.exists("no"),
        )
        return ctx.input

    run = create_run(
        known(define_workflow("w", input=Number).pipe(look).build()),
        {"value": 1},
        config={"look-around": {"word": "given"}},
        metadata={"m": 1},
    )
    host.drain()

    assert seen["ids"] == (run.pk, "w", "look-around", "Look around", 1)
    assert seen["attempt"] == (1, 0, None)
    assert (seen["config"], seen["metadata"], seen["now"]) == ("given", {"m": 1}, clock.now())
    assert seen["storage"] == ({"n": 1}, b"\x00\x01", ["page/1", "raw"], False)
    lines = [(line.level, line.message, line.fields) for line in WorkflowLog.objects.order_by("id")]
    assert lines[0] == ("INFO", "hello", {"password": "••••••", "count": 3})
    assert lines[1] == ("WARNING", "odd � ?", {"value": "nan"})
    row = StageRun.objects.get()
    assert row.metrics == {"rows": 12}
    assert row.progress == {"percent": 40.0, "message": "nearly", "details": {"step": 2}}
    assert set(WorkflowAnnotation.objects.values_list("key", "stage")) == {
        ("decision.outcome", "look-around"),
        ("a", "look-around"),
    }
    artifact = WorkflowArtifact.objects.get()
    assert (artifact.name, artifact.content_type, artifact.size) == ("report.html", "text/html", 9)
    assert artifact.read() == b"<p>hi</p>"
    assert "annotation.created" in events(run)


def test_the_idempotency_token_is_the_same_for_every_attempt(known: Any, host: InlineHost) -> None:
    tokens = []

    @stage("flaky", retry=Retry(max_attempts=2, initial=timedelta(0)))
    def flaky(ctx: StageContext[None]) -> None:
        tokens.append(ctx.idempotency_token)
        if ctx.attempt == 1:
            raise Broken

    create_run(known(define_workflow("w").pipe(flaky).build()))
    host.drain()

    assert len(tokens) == 2
    assert len(set(tokens)) == 1


def test_a_failing_body_is_retried_up_to_its_limit_with_its_real_error(known: Any, host: InlineHost) -> None:
    run = create_run(known(failing(attempts=3)), {"value": 1})

    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert run.status == "FAILED"
    assert run.error == {"code": "STAGE_FAILED", "class": "Broken", "message": "attempt 3", "stage": "fails"}
    attempts = list(StageAttempt.objects.order_by("attempt"))
    assert [(item.attempt, item.outcome, item.error_message) for item in attempts] == [
        (1, "retrying", "attempt 1"),
        (2, "retrying", "attempt 2"),
        (3, "failed", "attempt 3"),
    ]
    assert "raise Broken" in attempts[0].traceback
    assert events(run)[-2:] == ["stage.failed", "run.failed"]
    assert events(run).count("stage.retrying") == 2


def test_a_retry_waits_for_its_time_and_a_success_leaves_no_stale_error(
    known: Any, host: InlineHost, clock: FakeClock
) -> None:
    @stage("flaky", retry=Retry(max_attempts=2, initial=timedelta(seconds=10), jitter=0))
    def flaky(ctx: StageContext[None]) -> int:
        if ctx.attempt == 1:
            raise Broken("first")
        return 7

    run = create_run(known(define_workflow("w").pipe(flaky).build()))
    host.drain()
    row = StageRun.objects.get()
    assert (row.status, row.failures, row.error["message"]) == ("PENDING", 1, "first")
    assert row.due_at - clock.now() == timedelta(seconds=10)

    clock.advance(timedelta(seconds=9))
    assert host.drain() == 0
    clock.advance(timedelta(seconds=1))
    host.drain()

    row = StageRun.objects.get()
    assert (row.status, row.error, row.attempt) == ("COMPLETED", None, 2)
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NonRetryableError("no"), "STAGE_FAILED"),
        (SystemExit(3), "STAGE_FAILED"),
        (RunCancelledError("by hand"), "STAGE_FAILED"),
    ],
)
def test_some_errors_end_a_stage_without_ending_the_worker(
    known: Any, host: InlineHost, error: BaseException, code: str
) -> None:
    @stage("fails", retry=Retry(max_attempts=1))
    def fails(ctx: StageContext[None]) -> None:
        raise error

    run = create_run(known(define_workflow("w").pipe(fails).build()))
    host.drain()

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.error["code"], run.error["class"]) == ("FAILED", code, type(error).__name__)


def test_a_body_can_ask_for_its_own_wait(known: Any, host: InlineHost, clock: FakeClock) -> None:
    @stage("limited")
    def limited(ctx: StageContext[None]) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(timedelta(minutes=5))

    create_run(known(define_workflow("w").pipe(limited).build()))
    host.drain()

    assert StageRun.objects.get().due_at == clock.now() + timedelta(minutes=5)


def test_an_output_of_the_wrong_type_fails_without_retry_naming_the_field(known: Any, host: InlineHost) -> None:
    @stage("wrong", retry=Retry(max_attempts=5))
    def wrong(ctx: StageContext[None]) -> Number:
        return {"value": "hunter2"}  # type: ignore[return-value]

    run = create_run(known(define_workflow("w").pipe(wrong).build()))
    host.drain()

    error = WorkflowRun.objects.get(pk=run.pk).error
    assert (error["code"], error["class"]) == ("INVALID_OUTPUT", "InvalidOutput")
    assert "value: " in error["message"]
    assert "hunter2" not in error["message"]
    assert StageRun.objects.get().attempt == 1


@pytest.mark.parametrize("output", [float("nan"), {"a": "\x00"}, ["\udc00"], 10**1001])
def test_an_output_that_no_database_stores_fails_with_its_path(known: Any, host: InlineHost, output: Any) -> None:
    @stage("odd")
    def odd(ctx: StageContext[None]) -> Any:
        return output

    run = create_run(known(define_workflow("w").pipe(odd).build()))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).error["code"] == "INVALID_OUTPUT"


def test_an_error_that_cannot_be_shown_or_stored_is_stored_anyway(known: Any, host: InlineHost) -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    @stage("nasty", retry=Retry(max_attempts=2, initial=timedelta(0)))
    def nasty(ctx: StageContext[None]) -> None:
        raise Nasty if ctx.attempt == 1 else Broken("\x00 \ud800 " + "x" * 100_000)

    run = create_run(known(define_workflow("w").pipe(nasty).build()))
    host.drain()

    messages = list(StageAttempt.objects.order_by("attempt").values_list("error_message", flat=True))
    assert "cannot be shown" in messages[0]
    assert messages[1].startswith("� ? xxx")
    assert len(messages[1]) == 2000
    assert WorkflowRun.objects.get(pk=run.pk).status == "FAILED"


def test_a_large_output_travels_by_the_blob_store_under_its_attempts_own_key(known: Any, host: InlineHost) -> None:
    @stage("large")
    def large(ctx: StageContext[None]) -> str:
        return "x" * 100_000

    @stage("length")
    def length(ctx: StageContext[str]) -> int:
        return len(ctx.input)

    run = create_run(known(define_workflow("w").pipe(large).pipe(length).build()))
    host.drain()

    row = StageRun.objects.get(stage="large")
    assert row.output["blob"].startswith(f"runs/{run.pk}/large/0.1/output-")
    assert row.output["size"] == 100_002
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == 100_000


@pytest.mark.parametrize("damage", ["delete", "corrupt"])
def test_a_missing_or_damaged_blob_fails_the_stage_loudly_and_never_runs_its_body(
    known: Any, host: InlineHost, kernel: Kernel, damage: str
) -> None:
    ran = []

    @stage("large")
    def large(ctx: StageContext[None]) -> str:
        return "x" * 100_000

    @stage("after", retry=Retry(max_attempts=1))
    def after(ctx: StageContext[str]) -> None:
        ran.append(1)

    run = create_run(known(define_workflow("w").pipe(large).pipe(after).build()))
    first = host.take()[0]
    result = host._executor.run(_held(first))
    blob = result.output["blob"]  # type: ignore[union-attr]
    kernel.ports.blobs.delete(blob)
    if damage == "corrupt":
        kernel.ports.blobs.put(blob, b"something else")
    kernel.dispatch(FinishStages(outcomes=(Outcome(first, result, timedelta(0)),)))
    host.drain()

    assert ran == []
    expected = "BLOB_NOT_FOUND" if damage == "delete" else "BLOB_CORRUPT"
    assert WorkflowRun.objects.get(pk=run.pk).error["code"] == expected


def test_a_missing_output_of_one_sibling_fails_the_next_stage_loudly(known: Any, host: InlineHost) -> None:
    run = create_run(known(fan(3)), {"value": 1})
    following = host.execute(host.take()[0]).next
    for _ in range(2):
        following = host.execute(following[0]).next
    StageRun.objects.filter(stage="add-2").update(output=None)
    last = host.execute(following[0])
    host.execute(last.next[0])

    error = WorkflowRun.objects.get(pk=run.pk).error
    assert (error["code"], error["stage"]) == ("MISSING_INPUT", "total")
    assert "'add-2'" in error["message"]


def test_require_of_a_stage_that_has_not_run_names_those_that_have(known: Any, host: InlineHost) -> None:
    @stage("asks", retry=Retry(max_attempts=3))
    def asks(ctx: StageContext[Number]) -> None:
        assert ctx.optional("total") is None
        ctx.require("total")

    workflow = define_workflow("w", input=Number).pipe(add_stage("add-1")).pipe(asks).build()
    run = create_run(known(workflow), {"value": 1})
    host.drain()

    error = WorkflowRun.objects.get(pk=run.pk).error
    assert (error["code"], error["message"]) == (
        "MISSING_INPUT",
        "Stage 'total' has no output here. Available: 'add-1'.",
    )


def test_a_run_fails_once_its_group_has_settled_with_the_first_failed_stages_error(
    known: Any, host: InlineHost
) -> None:
    def sibling(id: str, fails: bool) -> Any:
        @stage(id, retry=Retry(max_attempts=1))
        def body(ctx: StageContext[None]) -> None:
            if fails:
                raise Broken(id)

        return body

    workflow = define_workflow("w").parallel(sibling("a", True), sibling("b", False), sibling("c", True)).build()
    run = create_run(known(workflow))
    following: Any = ()
    for count in range(3):
        assert WorkflowRun.objects.get(pk=run.pk).status == ("PENDING" if count == 0 else "RUNNING")
        following = host.execute((following or host.take())[0]).next

    run = WorkflowRun.objects.get(pk=run.pk)
    assert (run.status, run.error["message"], run.error["stage"]) == ("FAILED", "a", "a")
    assert dict(StageRun.objects.values_list("stage", "status")) == {"a": "FAILED", "b": "COMPLETED", "c": "FAILED"}


def test_a_siblings_retry_neither_fails_nor_advances_the_run(known: Any, host: InlineHost, clock: FakeClock) -> None:
    @stage("flaky", retry=Retry(max_attempts=2, initial=timedelta(seconds=10)))
    def flaky(ctx: StageContext[None]) -> int:
        if ctx.attempt == 1:
            raise Broken
        return 1

    @stage("good")
    def good(ctx: StageContext[None]) -> int:
        return 2

    run = create_run(known(define_workflow("w").parallel(flaky, good).build()))
    host.drain()
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"

    clock.advance(timedelta(seconds=20))
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).get_output() == {"flaky": 1, "good": 2}


def test_an_async_body_runs_and_can_await_its_context(known: Any, host: InlineHost) -> None:
    @stage("wait")
    async def wait(ctx: StageContext[Number]) -> int:
        await ctx.araise_if_cancelled()
        ctx.log.info("from async")
        return ctx.input.value + 1

    run = create_run(known(define_workflow("w", input=Number).pipe(wait).build()), {"value": 1})
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).get_output() == 2
    assert WorkflowLog.objects.get().message == "from async"


def _held(started: StartedStage) -> Any:
    from workflow_engine.executors.held import Held

    return Held(started)
