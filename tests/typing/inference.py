"""Read by mypy, never run: what it infers from a definition. A wrong inference is an error of ``make lint``."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from workflow_engine import (
    AnnotationKey,
    Decision,
    RunResult,
    Stage,
    StageContext,
    Trigger,
    Workflow,
    annotate_run,
    create_run,
    define_workflow,
    register,
    run_and_wait,
    stage,
)


class Document(BaseModel):
    path: str


class Text(BaseModel):
    text: str


class ExtractConfig(BaseModel):
    max_length: int = 50_000


@stage("extract-text")
def extract_text(ctx: StageContext[Document, ExtractConfig]) -> Text:
    assert_type(ctx.input, Document)
    assert_type(ctx.config, ExtractConfig)
    assert_type(ctx.config.max_length, int)
    return Text(text=ctx.input.path)


@stage("count-words")
async def count_words(ctx: StageContext[Text]) -> int:
    assert_type(ctx.input, Text)
    assert_type(ctx.config, None)
    assert_type(ctx.require(extract_text), Text)
    assert_type(ctx.optional(extract_text), Text | None)
    assert_type(await ctx.arequire(extract_text), Text)
    assert_type(ctx.require("extract-text"), Any)
    return len(ctx.input.text.split())


assert_type(Decision.OUTCOME, AnnotationKey[str])
assert_type(Decision.CONFIDENCE, AnnotationKey[float])
assert_type(Decision.ALTERNATIVES, AnnotationKey[list[str]])


@stage("remember")
async def remember(ctx: StageContext[Text]) -> Text:
    ctx.annotate(Decision.OUTCOME, "approved")
    ctx.annotate(Decision.ALTERNATIVES, ["wait"], actor="model")
    ctx.annotate("my.key", {"any": 1})
    ctx.annotate_many({Decision.CONFIDENCE: 0.5, "my.key": 1})
    assert_type(ctx.once("text", lambda: ctx.input), Text)
    assert_type(await ctx.aonce("later", find_text), Text)
    ctx.on_complete(lambda: print())  # noqa: T201 - any function without arguments
    return ctx.input


async def find_text() -> Text:
    return Text(text="x")


@stage("report")
def report(ctx: StageContext[dict[str, Any]]) -> list[str]:
    assert_type(ctx.require(count_words), int)
    return []


assert_type(extract_text, Stage[Document, ExtractConfig, Text])
assert_type(count_words, Stage[Text, None, int])

line = define_workflow("line", input=Document).pipe(extract_text).pipe(count_words).build()
assert_type(line, Workflow[Document, int])
assert_type(register(line), Workflow[Document, int])

joined = define_workflow("joined", input=Document).pipe(extract_text).parallel(count_words).pipe(report).build()
assert_type(joined, Workflow[Document, list[str]])

open_end = define_workflow("open-end", input=Document).parallel(extract_text, count_words).build()
assert_type(open_end, Workflow[Document, dict[str, Any]])


def wait() -> None:
    result = run_and_wait(line, Document(path="x"))
    assert_type(result, RunResult[int])
    assert_type(result.output, int | None)
    run = create_run(line, Document(path="x"), annotations={Trigger.SOURCE: "webhook"})
    create_run(line, Document(path="x"), annotations={"my.key": 1})
    create_run(line, Document(path="x"), annotations={"my.key": 1, Trigger.SOURCE: "webhook"})
    assert_type(annotate_run(run, {Decision.OUTCOME: "approved"}), int)
