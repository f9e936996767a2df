"""The soaked workflows. Each stage's output is a hash of its input, so that any mix-up shows at the end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.soak.journal import recorded
from workflow_engine import (
    Completion,
    Limit,
    Output,
    Retry,
    Stage,
    StageContext,
    Wait,
    define_workflow,
    register,
    stage,
)

LARGE = 200_000
SOON = Retry(max_attempts=5, initial=timedelta(seconds=0.2), maximum=timedelta(seconds=1))


class Flaky(Exception):
    """What a flaky stage raises on purpose."""


def digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def seconds(text: str, least: float, most: float) -> float:
    """Return a time between the two that depends on the text alone."""
    return least + (most - least) * int(digest(text)[:4], 16) / 0xFFFF


def quick(id: str) -> Stage[str, None, str]:
    @stage(id)
    def body(ctx: StageContext[str]) -> str:
        with recorded(ctx):
            return digest(id, ctx.input)

    return body


def slow(id: str, *, least: float = 0.1, most: float = 0.3, queue: str = "workflows") -> Stage[str, None, str]:
    @stage(id, queue=queue)
    def body(ctx: StageContext[str]) -> str:
        with recorded(ctx):
            ctx.progress(10, "begun")
            time.sleep(seconds(ctx.input + id, least, most))
            ctx.log.info("computed", stage=ctx.stage_id)
            ctx.annotate(f"seen-{id}", ctx.attempt)
            return digest(id, ctx.input) + "x" * LARGE

    return body


def waiting(id: str) -> Stage[str, None, str]:
    @stage(id)
    async def body(ctx: StageContext[str]) -> str:
        with recorded(ctx):
            await asyncio.sleep(seconds(ctx.input + id, 0.1, 0.3))
            return digest(id, ctx.input)

    return body


@stage("join")
def join(ctx: StageContext[dict[str, str]]) -> str:
    with recorded(ctx):
        return digest("join", *(ctx.input[key] for key in sorted(ctx.input)))


@stage("flaky", retry=SOON)
def flaky(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        if ctx.attempt <= 2:
            raise Flaky(f"on purpose, attempt {ctx.attempt}")
        return digest("flaky", ctx.input)


@stage("doomed", retry=Retry(max_attempts=2, initial=timedelta(seconds=0.2)))
def doomed(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        raise Flaky("on purpose, always")


@stage("apart", isolation="process")
def apart(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        time.sleep(0.05)
        return digest("apart", ctx.input)


ASK = Wait("ask", str, max_wait=timedelta(seconds=0.5), default="nobody")


@stage("never", when=Output("first") == "never")
def never(ctx: StageContext[str]) -> str:
    raise AssertionError("its condition does not hold")


@stage("nap")
def nap(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        ctx.sleep(timedelta(seconds=seconds(ctx.input, 0.2, 0.6)))
        return digest("nap", ctx.input)


@stage("ask", waits=[ASK])
def ask(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        return digest("ask", ctx.input, ctx.wait_for(ASK))


@stage("batch", check_retry=SOON)
def batch(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        ready = time.time() + seconds(ctx.input, 0.2, 1.0)
        ctx.suspend({"ready": ready}, poll_every=timedelta(seconds=0.3))


@batch.check_completion
def batch_done(ctx: StageContext[str], state: dict[str, float]) -> Completion[str]:
    ctx.log.info("checking")
    time.sleep(0.05)
    return Completion.ready(digest("batch", ctx.input)) if time.time() > state["ready"] else Completion.pending()


LINKS = [f"link-{number}" for number in range(1, 6)]
ITEMS = 12
LEAVES = [f"leaf-{number}" for number in range(1, 11)]
WAITS = [f"wait-{number}" for number in range(1, 4)]


def line(id: str, *stages: Stage[Any, Any, Any]) -> None:
    builder = define_workflow(id, input=str).pipe(stages[0])
    for item in stages[1:]:
        builder = builder.pipe(item)
    register(builder.build())


line("chain", *map(quick, LINKS))
line("slow", slow("load"), slow("compute"), slow("store"))
line("long", slow("long", least=2.0, most=3.0, queue="long"))
line("flaky", quick("first"), flaky, quick("last"))
line("doomed", quick("first"), doomed)
line("apart", quick("first"), apart, quick("last"))
line("waits", quick("first"), never, nap, ask, batch)
register(define_workflow("fan", input=str).pipe(quick("first")).parallel(*map(quick, LEAVES)).pipe(join).build())
# Of those whose number ends alike only so many at a time.
CROWD = 2
crowd = define_workflow("crowd", input=str, concurrency=Limit(CROWD, key=lambda text: text[-1]))
register(crowd.pipe(quick("first")).pipe(waiting("wait-1")).build())
register(define_workflow("async", input=str).parallel(*map(waiting, WAITS)).pipe(join).build())


@stage("letters")
def letters(ctx: StageContext[str]) -> list[str]:
    with recorded(ctx):
        return [f"{ctx.input}-{number}" for number in range(ITEMS)]


@stage("hash-one", retry=SOON)
def hash_one(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        if ctx.item_index == 3 and ctx.attempt == 1:
            raise Flaky("on purpose, the first attempt")
        return digest("hash-one", ctx.input)


@stage("ask-child")
def ask_child(ctx: StageContext[str]) -> str:
    with recorded(ctx):
        return ctx.run_child("chain", ctx.input)


@stage("reduce")
def reduce(ctx: StageContext[list[str]]) -> str:
    with recorded(ctx):
        return digest("reduce", *ctx.input)


def is_bad(index: int) -> bool:
    return index % 100 == 7


def is_deadly(index: int) -> bool:
    return index % 1000 == 500


def _triple(id: str, *, deadly: bool) -> Stage[int, None, int]:
    @stage(id, retry=Retry(max_attempts=2, initial=timedelta(seconds=0.2)))
    def triple(ctx: StageContext[int]) -> int:
        with recorded(ctx):
            if deadly and is_deadly(ctx.input):
                os.kill(os.getpid(), signal.SIGKILL)
            if is_bad(ctx.input):
                raise Flaky("on purpose, always")
            return ctx.input * 3

    return triple


@stage("count")
def count(ctx: StageContext[int]) -> list[int]:
    with recorded(ctx):
        return list(range(ctx.input))


def _register_wide(id: str, *, deadly: bool) -> None:
    triple = _triple("triple", deadly=deadly)

    @stage("add-up")
    def add_up(ctx: StageContext[None]) -> list[int]:
        with recorded(ctx):
            values = list(ctx.items(triple).outputs())
            return [len(values), sum(values)]

    wide = define_workflow(id, input=int).pipe(count).map(triple, on_item_error="collect").pipe(add_up)
    register(wide.build())


_register_wide("wide", deadly=False)
_register_wide("wide-deadly", deadly=True)


def _pass_on(id: str) -> Stage[int, None, int]:
    @stage(id)
    def pass_on(ctx: StageContext[int]) -> int:
        with recorded(ctx):
            return ctx.input

    return pass_on


@stage("delegate")
def delegate(ctx: StageContext[int]) -> int:
    with recorded(ctx):
        return int(ctx.run_child("errand", ctx.input))


@stage("gather")
def gather(ctx: StageContext[None]) -> list[int]:
    with recorded(ctx):
        values = list(ctx.items(delegate).outputs())
        return [len(values), sum(values)]


errand = define_workflow("errand", input=int).pipe(_pass_on("go")).pipe(_pass_on("fetch")).pipe(_pass_on("return"))
register(errand.build())
register(define_workflow("household", input=int).pipe(count).map(delegate).pipe(gather).build())
register(define_workflow("mapped", input=str).pipe(letters).map(hash_one, max_parallel=8).pipe(reduce).build())
register(define_workflow("family", input=str).pipe(letters).map(ask_child, max_parallel=4).pipe(reduce).build())


def _mapped(each: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: digest("reduce", *(each(f"{text}-{number}") for number in range(ITEMS)))


def _chained(*ids: str) -> Callable[[str], str]:
    def output(text: str) -> str:
        for id in ids:
            text = digest(id, text)
        return text

    return output


def _slow(*ids: str) -> Callable[[str], str]:
    def output(text: str) -> str:
        for id in ids:
            text = digest(id, text) + "x" * LARGE
        return text

    return output


def _joined(ids: list[str], text: str) -> str:
    outputs = {id.replace("-", "_"): digest(id, text) for id in ids}
    return digest("join", *(outputs[key] for key in sorted(outputs)))


# Workflow -> what its output must be for an input; None: it must fail. Weights: how often each is created.
EXPECTED: dict[str, Callable[[str], str] | None] = {
    "chain": _chained(*LINKS),
    "fan": lambda text: _joined(LEAVES, digest("first", text)),
    "slow": _slow("load", "compute", "store"),
    "async": lambda text: _joined(WAITS, text),
    "flaky": _chained("first", "flaky", "last"),
    "doomed": None,
    "crowd": _chained("first", "wait-1"),
    "apart": _chained("first", "apart", "last"),
    "long": _slow("long"),
    "mapped": _mapped(lambda text: digest("hash-one", text)),
    "family": _mapped(_chained(*LINKS)),
    "waits": lambda text: digest("batch", digest("ask", digest("nap", digest("first", text)), "nobody")),
}
MIX = (
    *("chain", "fan", "slow", "async", "waits", "mapped", "flaky"),
    *("slow", "family", "fan", "waits", "doomed", "async", "crowd", "crowd"),
)
