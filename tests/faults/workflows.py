"""Workflows for processes that are killed: each stage's output is a hash of its input, so that any mix-up shows."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta

from django.contrib.auth.models import Group
from pydantic import BaseModel

from workflow_engine.definitions import (
    Completion,
    Limit,
    Output,
    StageContext,
    Wait,
    Workflow,
    define_workflow,
    register,
    stage,
)
from workflow_engine.definitions.stages import Stage
from workflow_engine.models import StageRun

LARGE = 100_000


def digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def hashing(id: str) -> Stage[str, None, str]:
    @stage(id)
    def body(ctx: StageContext[str]) -> str:
        ctx.progress(50, "half-way")
        ctx.log.info("hashing", stage=ctx.stage_id)
        # Large enough for the blob store.
        ctx.artifact("digest.txt", digest(id, ctx.input))
        return digest(id, ctx.input) + "x" * LARGE

    return body


@stage("join")
def join(ctx: StageContext[dict[str, str]]) -> str:
    ctx.progress(50, "half-way")
    return digest("join", *(ctx.input[key] for key in sorted(ctx.input)))


MIDDLE = ("left", "middle", "right")
crashing: Workflow[str, str] = register(
    define_workflow("crashing", input=str)
    .pipe(hashing("first"))
    .pipe(hashing("second"))
    .parallel(*map(hashing, MIDDLE))
    .pipe(join)
    .build()
)


def expected(text: str) -> str:
    """Return the output of a run: a model of the plan in plain Python."""
    second = digest("second", digest("first", text) + "x" * LARGE) + "x" * LARGE
    middle = {name: digest(name, second) + "x" * LARGE for name in MIDDLE}
    return digest("join", *(middle[key] for key in sorted(middle)))


LINE = ("one", "two", "three")
line: Workflow[str, str] = register(
    define_workflow("line", input=str).pipe(hashing(LINE[0])).pipe(hashing(LINE[1])).pipe(hashing(LINE[2])).build()
)


def expected_of_line(text: str) -> str:
    for name in LINE:
        text = digest(name, text) + "x" * LARGE
    return text


WIDE = tuple(f"part-{number}" for number in range(8))
wide: Workflow[str, str] = register(
    define_workflow("wide", input=str).pipe(hashing("split")).parallel(*map(hashing, WIDE)).pipe(join).build()
)


def expected_of_wide(text: str) -> str:
    split = digest("split", text) + "x" * LARGE
    return digest("join", *(digest(name, split) + "x" * LARGE for name in sorted(WIDE)))


class Verdict(BaseModel):
    text: str


ASK = Wait("ask", Verdict, max_wait=timedelta(milliseconds=200), default=Verdict(text="by default"))


@stage("begin")
def begin(ctx: StageContext[str]) -> str:
    return digest("begin", ctx.input)


@stage("skipped", when=Output(begin) == "never")
def skipped(ctx: StageContext[str]) -> str:
    raise AssertionError("its condition does not hold")


@stage("ask", waits=[ASK])
def ask(ctx: StageContext[str]) -> str:
    return digest("ask", ctx.input, ctx.wait_for(ASK).text)


@stage("nap")
def nap(ctx: StageContext[str]) -> str:
    ctx.sleep(timedelta(milliseconds=100))
    return digest("nap", ctx.input)


@stage("batch")
def batch(ctx: StageContext[str]) -> str:
    ctx.suspend(str(ctx.run_id), poll_every=timedelta(milliseconds=100))


@batch.check_completion
def batch_done(ctx: StageContext[str], state: str) -> Completion[str]:
    ctx.log.info("checking")
    # Ready at the second look, however long that takes.
    if not StageRun.objects.filter(run=state, stage=ctx.stage_id, polls__gt=0).exists():
        return Completion.pending()
    return Completion.ready(digest("batch", ctx.input) + "x" * LARGE)


waiting: Workflow[str, str] = register(
    define_workflow("waiting", input=str).pipe(begin).pipe(skipped).pipe(ask).pipe(nap).pipe(batch).build()
)


def expected_of_waiting(text: str) -> str:
    return digest("batch", digest("nap", digest("ask", digest("begin", text), "by default"))) + "x" * LARGE


class NapConfig(BaseModel):
    seconds: float = 3600


@stage("approve", waits=[Wait("manager", Verdict)])
def approve(ctx: StageContext[str]) -> str:
    return digest("approve", ctx.input, ctx.wait_for(approve.waits[0]).text)


@stage("payday")
def payday(ctx: StageContext[str, NapConfig]) -> str:
    ctx.sleep(timedelta(seconds=ctx.config.seconds))
    return digest("payday", ctx.input)


@stage("book")
def book(ctx: StageContext[str]) -> str:
    return digest("book", ctx.input)


expense: Workflow[str, str] = register(
    define_workflow("expense", input=str).pipe(begin).pipe(approve).pipe(payday).pipe(book).build()
)


def expected_of_expense(text: str, verdict: str) -> str:
    return digest("book", digest("payday", digest("approve", digest("begin", text), verdict)))


def write(name: str) -> None:
    """Write a row; every call gives one more."""
    Group.objects.create(name=f"{name} {uuid.uuid4()}")


def written(name: str) -> int:
    return Group.objects.filter(name__startswith=name).count()


@stage("reserve", atomic=True, timeout=timedelta(seconds=0.7))
def reserve(ctx: StageContext[str]) -> str:
    ctx.log.info("booking")
    write("booked")
    return ctx.input + "x" * LARGE


@stage("pay")
def pay(ctx: StageContext[str]) -> str:
    ctx.log.info("paying")
    charge: str = ctx.once("charge", lambda: digest("charge", ctx.input))
    ctx.on_complete(lambda: write("paid"))
    return charge


paying: Workflow[str, str] = register(define_workflow("paying", input=str).pipe(reserve).pipe(pay).build())


@stage("numbers")
def numbers(ctx: StageContext[int]) -> list[int]:
    return list(range(ctx.input))


@stage("double")
def double(ctx: StageContext[int]) -> int:
    ctx.log.info("doubling")
    return ctx.input * 2


@stage("more")
def more(ctx: StageContext[int]) -> int:
    return ctx.input + 1


grandchild: Workflow[int, int] = register(define_workflow("grandchild", input=int).pipe(double).pipe(more).build())


@stage("delegate")
def delegate(ctx: StageContext[int]) -> int:
    ctx.log.info("delegating")
    return ctx.run_child(grandchild, ctx.input)


@stage("together")
def together(ctx: StageContext[None]) -> list[int]:
    return list(ctx.items(delegate).outputs())


household: Workflow[int, list[int]] = register(
    define_workflow("household", input=int).pipe(numbers).map(delegate, max_parallel=3).pipe(together).build()
)


def expected_of_household(count: int) -> list[int]:
    return [number * 2 + 1 for number in range(count)]


@stage("claim")
def claim(ctx: StageContext[int]) -> str:
    return ctx.run_child(expense, str(ctx.input))


# Its children wait for their manager.
claims: Workflow[int, list[str]] = register(
    define_workflow("claims", input=int).pipe(numbers).map(claim, max_parallel=3).build()
)


crowded: Workflow[str, str] = register(
    define_workflow("crowded", input=str, concurrency=Limit(2, key=lambda text: text[0]))
    .pipe(hashing("first"))
    .pipe(hashing("last"))
    .build()
)
