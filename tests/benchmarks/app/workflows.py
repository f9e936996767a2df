"""The measured workflows: their bodies do nothing, so what is measured is the engine."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from workflow_engine import Completion, Limit, Stage, StageContext, define_workflow, register, stage

QUEUES = ("workflows", "others")


def nothing(id: str) -> Stage[int, None, int]:
    @stage(id)
    def do_nothing(ctx: StageContext[int]) -> int:
        return ctx.input

    return do_nothing


def passing(id: str) -> Stage[str, None, str]:
    @stage(id)
    def pass_on(ctx: StageContext[str]) -> str:
        return ctx.input

    return pass_on


def stamping(id: str, queue: str) -> Stage[list[float], None, list[float]]:
    """Return a stage that adds the times at which its body began and ended."""

    @stage(id, queue=queue)
    def stamp(ctx: StageContext[list[float]]) -> list[float]:
        began = time.time()
        return [*ctx.input, began, time.time()]

    return stamp


@stage("join")
def join(ctx: StageContext[dict[str, int]]) -> int:
    return sum(ctx.input.values())


@stage("wait")
async def wait(ctx: StageContext[float]) -> float:
    await asyncio.sleep(ctx.input)
    return ctx.input


@stage("submit")
def submit(ctx: StageContext[float]) -> float:
    """Wait for the check that is due ``input`` seconds from now; the output is how many seconds late it was."""
    due = ctx.now() + timedelta(seconds=ctx.input)
    ctx.suspend({"due": due.timestamp()}, first_poll_at=due)


@submit.check_completion
def check(ctx: StageContext[float], state: dict[str, float]) -> Completion[float]:
    return Completion.ready(time.time() - state["due"])


@stage("numbers")
def numbers(ctx: StageContext[int]) -> list[int]:
    return list(range(ctx.input))


@stage("item")
def item(ctx: StageContext[int]) -> int:
    return ctx.input


@stage("add-up")
def add_up(ctx: StageContext[None]) -> int:
    return sum(ctx.items(item).outputs())


def line(id: str, input: type, stages: list[Stage], limit: Limit | None = None) -> None:
    builder = define_workflow(id, input=input, concurrency=limit).pipe(stages[0])
    for item in stages[1:]:
        builder = builder.pipe(item)
    register(builder.build())


line("single", int, [nothing("step-1")])
line("chain5", int, [nothing(f"step-{number}") for number in range(1, 6)])
line("payload10k", str, [passing(f"step-{number}") for number in range(1, 6)])
line("gaps", list[float], [stamping(f"step-{number}", QUEUES[0]) for number in range(1, 6)])
line("gaps-queued", list[float], [stamping(f"step-{number}", QUEUES[number % 2]) for number in range(1, 6)])
line("heard", int, [nothing(f"step-{number}") for number in range(1, 6)])
line("limited", int, [nothing(f"step-{number}") for number in range(1, 6)], Limit(10))
line("waits", float, [wait])
line("polls", float, [submit])
register(define_workflow("map", input=int).pipe(numbers).map(item).pipe(add_up).build())
members = [nothing(f"step-{number}") for number in range(1, 11)]
register(define_workflow("group10", input=int).parallel(*members).pipe(join).build())
