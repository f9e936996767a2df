"""What flows through a run: outputs, files, numbers, log lines, config and storage."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.hosts.test_worker import status_of, working
from tests.invariants import check_all
from tests.waiting import until
from tests.workflows import AddConfig, Number, chain
from workflow_engine import Retry, StageContext, create_run, define_workflow, stage
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageRun, WorkflowArtifact, WorkflowLog, WorkflowRun

LARGE = 100_000
ONE = Retry(max_attempts=1)


class Text(BaseModel):
    text: str


def error_of(run: WorkflowRun) -> tuple[str, str, str]:
    run.refresh_from_db()
    assert run.status == "FAILED"
    return run.error["stage"], run.error["code"], run.error["message"]


def test_t18_what_a_stage_gives_is_stored_and_handed_on(known: Any, host: InlineHost) -> None:
    @stage("read")
    def read(ctx: StageContext[str]) -> Text:
        ctx.metric("pages", 3)
        ctx.artifact("page.txt", ctx.input, content_type="text/plain")
        return Text(text=ctx.input)

    @stage("count-words")
    def count_words(ctx: StageContext[Text]) -> int:
        return len(ctx.input.text.split())

    @stage("shout")
    def shout(ctx: StageContext[Text]) -> str:
        return ctx.input.text.upper()

    @stage("report")
    def report(ctx: StageContext[dict[str, Any]]) -> dict[str, Any]:
        return ctx.input

    known(define_workflow("w", input=str).pipe(read).parallel(count_words, shout).pipe(report).build())
    run = create_run("w", "two words")
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == {"count_words": 2, "shout": "TWO WORDS"}
    first = StageRun.objects.get(stage="read")
    assert (first.get_output(), first.metrics) == ({"text": "two words"}, {"pages": 3})
    assert first.finished_at >= first.started_at
    file = WorkflowArtifact.objects.get()
    assert (file.stage, file.name, file.content_type, file.size) == ("read", "page.txt", "text/plain", 9)
    assert get_kernel().ports.blobs.get(file.key) == b"two words"
    check_all()


def test_t19_any_earlier_output_can_be_asked_for_and_a_missing_one_says_which_there_are(
    known: Any, host: InlineHost
) -> None:
    @stage("nothing")
    def nothing(ctx: StageContext[None]) -> int:
        return 0

    @stage("empty")
    def empty(ctx: StageContext[None]) -> list[str]:
        return []

    @stage("text")
    def text(ctx: StageContext[None]) -> str:
        return ""

    @stage("last")
    def last(ctx: StageContext[None]) -> list[Any]:
        found = [ctx.require(nothing), ctx.require("empty"), ctx.require(text), ctx.optional(nothing)]
        return [*found, ctx.optional("last"), ctx.optional("nowhere")]

    @stage("asks")
    def asks(ctx: StageContext[None]) -> Any:
        return ctx.require("nowhere")

    known(define_workflow("w").pipe(nothing).parallel(empty, text).pipe(last).pipe(asks).build())
    run = create_run("w")
    host.drain()

    assert StageRun.objects.get(stage="last").get_output() == [0, [], "", 0, None, None]
    assert error_of(run) == (
        "asks",
        "MISSING_INPUT",
        "Stage 'nowhere' has no output here. Available: 'nothing', 'empty', 'text', 'last'.",
    )
    assert StageRun.objects.get(stage="asks").attempt == 1


def test_t20_wrong_input_and_output_fail_at_once_with_class_and_message(known: Any, host: InlineHost) -> None:
    entered: list[str] = []

    @stage("gives-text")
    def gives_text(ctx: StageContext[None]) -> str:
        return "no number"

    @stage("takes-number")
    def takes_number(ctx: StageContext[int]) -> int:
        entered.append("takes-number")
        return ctx.input

    @stage("gives-nonsense")
    def gives_nonsense(ctx: StageContext[None]) -> int:
        return "text"  # type: ignore[return-value]

    known(
        define_workflow("wrong-input").pipe(gives_text).pipe(takes_number).build(),
        define_workflow("wrong-output").pipe(gives_nonsense).build(),
    )
    wrong_input, wrong_output = create_run("wrong-input"), create_run("wrong-output")
    host.drain()

    assert error_of(wrong_input)[:2] == ("takes-number", "INVALID_INPUT")
    assert "Invalid input of stage 'takes-number': Input should be a valid integer" in error_of(wrong_input)[2]
    assert error_of(wrong_output)[:2] == ("gives-nonsense", "INVALID_OUTPUT")
    assert (wrong_input.error["class"], wrong_output.error["class"]) == ("InvalidInput", "InvalidOutput")
    assert entered == []
    assert set(StageRun.objects.values_list("attempt", flat=True)) == {1}
    check_all()


@pytest.mark.parametrize("width", [1, 2])
def test_t21_a_missing_blob_of_the_stage_before_fails_loudly_and_runs_no_body(
    known: Any, host: InlineHost, width: int
) -> None:
    entered: list[str] = []

    @stage("first")
    def first(ctx: StageContext[None]) -> str:
        return "x" * LARGE

    @stage("second")
    def second(ctx: StageContext[None]) -> str:
        return "y" * LARGE

    @stage("last", retry=ONE)
    def last(ctx: StageContext[Any]) -> int:
        entered.append("last")
        return 1

    before = define_workflow("w").parallel(*(first, second)[:width])
    run = create_run(known(before.pipe(last).build()))
    following: tuple[StartedStage, ...] = tuple(host.take(run.pk))
    while following[0].stage_id != "last":
        following = host.execute(following[0]).next or tuple(host.take(run.pk))
    lost = StageRun.objects.get(stage="first").output["blob"]
    get_kernel().ports.blobs.delete(lost)
    host.execute(following[0])

    stage_id, code, message = error_of(run)
    assert (stage_id, code) == ("last", "BLOB_NOT_FOUND")
    assert lost in message
    assert entered == []
    check_all()


@pytest.mark.django_db(transaction=True)
def test_t22_lines_of_every_level_are_kept_and_progress_is_seen_before_the_end(known: Any) -> None:
    half, three_quarters, leave = threading.Event(), threading.Event(), threading.Event()

    @stage("talks")
    def talks(ctx: StageContext[None]) -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(ctx.log, level)(f"a line of {level}", page=1)
        ctx.progress(50, "half", page=1)
        half.set()
        three_quarters.wait(30)
        ctx.progress(60)
        ctx.progress(75, "later", page=2)
        leave.wait(30)

    run = create_run(known(define_workflow("w").pipe(talks).build()))
    with working():
        assert half.wait(30)
        until(lambda: _percent(run) == 50, "the first progress is seen")
        three_quarters.set()
        until(lambda: _percent(run) == 75, "the last progress is seen")
        assert status_of(run) == "RUNNING"
        leave.set()
        until(lambda: status_of(run) == "COMPLETED", "the run has ended")

    row = StageRun.objects.get()
    lines = WorkflowLog.objects.order_by("id").values_list("run", "stage_run", "stage", "level", "message", "fields")
    assert list(lines) == [
        (run.pk, row.pk, "talks", level, f"a line of {level.lower()}", {"page": 1})
        for level in ("DEBUG", "INFO", "WARNING", "ERROR")
    ]
    assert row.progress == {"percent": 75.0, "message": "later", "details": {"page": 2}}


def _percent(run: WorkflowRun) -> float:
    return float((StageRun.objects.get(run=run).progress or {}).get("percent", 0))


def test_t23_a_stage_has_its_own_part_of_the_config_and_its_own_storage(known: Any, host: InlineHost) -> None:
    @stage("stores")
    def stores(ctx: StageContext[Number, AddConfig]) -> list[Any]:
        before = ctx.storage.list()
        ctx.storage.save("number", ctx.input.value + ctx.config.amount)
        return [before, ctx.storage.load("number")]

    storing: Workflow[Any, Any] = define_workflow("storing", input=Number).pipe(stores).build()
    known(chain(2), storing)
    config = {"add-2": {"amount": 5}}
    added = create_run("chain", {"value": 1}, config=config)
    first = create_run("storing", {"value": 1}, config={"stores": {"amount": 10}})
    second = create_run("storing", {"value": 2})
    host.drain()

    assert dict(StageRun.objects.filter(run=added).values_list("stage", "config")) == {
        "add-1": {"amount": 1},
        "add-2": {"amount": 5},
    }
    for run, number in ((first, 11), (second, 3)):
        run.refresh_from_db()
        assert run.get_output() == [[], number]
    assert timedelta(0) <= first.finished_at - first.started_at
