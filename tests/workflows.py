"""Small workflows that many tests use."""

from __future__ import annotations

from pydantic import BaseModel

from workflow_engine.definitions import Retry, Stage, StageContext, Workflow, define_workflow, stage


class Number(BaseModel):
    value: int


class AddConfig(BaseModel):
    amount: int = 1


def add_stage(id: str, **options: object) -> Stage[Number, AddConfig, Number]:
    """Return a stage that adds its configured amount."""

    @stage(id, **options)  # type: ignore[arg-type]
    def add(ctx: StageContext[Number, AddConfig]) -> Number:
        return Number(value=ctx.input.value + ctx.config.amount)

    return add


def chain(length: int, id: str = "chain") -> Workflow[Number, Number]:
    """Return a line of ``length`` groups of one stage, each adding 1."""
    builder = define_workflow(id, input=Number).pipe(add_stage("add-1"))
    for number in range(2, length + 1):
        builder = builder.pipe(add_stage(f"add-{number}"))
    return builder.build()


@stage("total")
def total(ctx: StageContext[dict[str, Number]]) -> Number:
    return Number(value=sum(item.value for item in ctx.input.values()))


def fan(width: int, id: str = "fan") -> Workflow[Number, Number]:
    """Return 1 -> ``width`` in parallel -> 1."""
    middle = [add_stage(f"add-{number}") for number in range(1, width + 1)]
    return define_workflow(id, input=Number).pipe(add_stage("first")).parallel(*middle).pipe(total).build()


class Broken(Exception):
    """Raised by stages that are meant to fail."""


def failing(id: str = "failing", *, attempts: int = 1, stage_id: str = "fails") -> Workflow[Number, Number]:
    """Return a workflow whose only stage always raises; ``attempts`` tries without waiting."""
    from datetime import timedelta

    @stage(stage_id, retry=Retry(max_attempts=attempts, initial=timedelta(0)))
    def fails(ctx: StageContext[Number]) -> Number:
        raise Broken(f"attempt {ctx.attempt}")

    return define_workflow(id, input=Number).pipe(fails).build()
