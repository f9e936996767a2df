"""The load: short workflows that leave something in every table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from workflow_engine import Retry, Stage, StageContext, define_workflow, register, stage

LARGE = "x" * 100_000
ITEMS = 4


def passing(id: str) -> Stage[str, None, str]:
    @stage(id)
    def body(ctx: StageContext[str]) -> str:
        ctx.log.info("passed on", stage=ctx.stage_id)
        return ctx.input

    return body


@stage("enlarge")
def enlarge(ctx: StageContext[str]) -> str:
    ctx.annotate("seen", ctx.input)
    ctx.artifact("text.txt", ctx.input + LARGE)
    ctx.storage.save("page", ctx.input)
    return ctx.input + LARGE


@stage("shrink")
def shrink(ctx: StageContext[str]) -> str:
    return str(ctx.once("number", lambda: ctx.input[: -len(LARGE)]))


@stage("doomed", retry=Retry(max_attempts=2, initial=timedelta(seconds=0.5)))
def doomed(ctx: StageContext[str]) -> str:
    raise ValueError("on purpose")


@stage("letters")
def letters(ctx: StageContext[str]) -> list[str]:
    return [f"{ctx.input}-{number}" for number in range(ITEMS)]


@stage("each")
def each(ctx: StageContext[str]) -> str:
    return ctx.input.upper()


@stage("join")
def join(ctx: StageContext[list[str]]) -> str:
    return " ".join(ctx.input)


@stage("delegate")
def delegate(ctx: StageContext[str]) -> str:
    return str(ctx.run_child("plain", ctx.input))


@stage("nap")
def nap(ctx: StageContext[str]) -> str:
    ctx.sleep(timedelta(seconds=5))
    return ctx.input


@stage("long-nap")
def long_nap(ctx: StageContext[str]) -> str:
    ctx.sleep(timedelta(hours=1))
    return ctx.input


def _line(id: str, *stages: Stage[Any, Any, Any]) -> None:
    builder = define_workflow(id, input=str).pipe(stages[0])
    for item in stages[1:]:
        builder = builder.pipe(item)
    register(builder.build())


_line("plain", passing("a"), passing("b"), passing("c"), passing("d"))
_line("large", passing("a"), enlarge, passing("c"), shrink)
_line("failing", passing("a"), doomed, passing("c"))
_line("parent", passing("a"), delegate, passing("c"))
_line("napping", passing("a"), nap, passing("c"))
# Nobody waits for its end: it is cancelled with others.
_line("cancelled", passing("a"), long_nap, passing("c"))
register(define_workflow("mapped", input=str).pipe(letters).map(each).pipe(join).build())
MIX = ("plain", "large", "plain", "mapped", "failing", "parent", "plain", "napping")
