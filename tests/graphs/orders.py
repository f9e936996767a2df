"""A workflow whose names try to break every format."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from workflow_engine.definitions import Retry, Stage, StageContext, Workflow, define_workflow, stage

NASTY = '1. <b>"&amp;" `x` #35; ]] 注文'


def named(id: str, **options: Any) -> Stage[int, None, int]:
    @stage(id, **options)
    def body(ctx: StageContext[int]) -> int:
        return ctx.input

    return body


def orders() -> Workflow[int, int]:
    return (
        define_workflow("orders", name=NASTY, description="From cart\nto door", input=int, version="7")
        .pipe(named("end", timeout=timedelta(minutes=10)))
        .parallel(
            named("pay", name=NASTY, retry=Retry(max_attempts=1)),
            named("pack", retry=Retry(max_attempts=9), queue="hands", dependencies=["end"]),
            named("label", description="Print\x00 the <label>"),
        )
        .pipe(named("ship"))
        .build()
    )
