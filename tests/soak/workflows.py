"""The soaked workflows. Each stage's output is a hash of its input, so that any mix-up shows at the end."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.soak.journal import recorded
from workflow_engine import Completion, Output, Retry, Stage, StageContext, Wait, define_workflow, register, stage

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
register(define_workflow("async", input=str).parallel(*map(waiting, WAITS)).pipe(join).build())


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
    "apart": _chained("first", "apart", "last"),
    "long": _slow("long"),
    "waits": lambda text: digest("batch", digest("ask", digest("nap", digest("first", text)), "nobody")),
}
MIX = ("chain", "fan", "slow", "async", "waits", "chain", "flaky", "slow", "fan", "waits", "doomed", "async")
