"""The workflows whose commands are fuzzed: every kind of wait, group and condition, with bodies that just return."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine.definitions import Completion, Output, Stage, StageContext, Wait, Workflow, define_workflow, stage

ITEMS = 3
MAX_WAIT = timedelta(minutes=4)
DEADLINE = timedelta(hours=6)
# Without a default: a stage whose time for it is over fails.
HARD = Wait("hard", bool, max_wait=MAX_WAIT)
SOFT = Wait("soft", bool, max_wait=MAX_WAIT, default=True)


class Count(BaseModel):
    value: int = 1


def unit(id: str, **options: Any) -> Stage[Any, Any, Any]:
    """Return a stage that can wait for anything; left alone its body only returns."""

    @stage(id, waits=[HARD, SOFT], **options)
    def body(ctx: StageContext[Any]) -> Count:
        return Count()

    @body.check_completion
    def check(ctx: StageContext[Any], state: Any) -> Completion[Count]:
        return Completion.ready(Count())

    return body


first = unit("first")
quick_first = unit("begin")

ORDER: Workflow[Any, Any] = (
    define_workflow("order", input=Count, timeout=DEADLINE)
    .pipe(first)
    .parallel(unit("left"), unit("right", queue="slow"))
    .map(unit("each"), over=lambda found: [Count()] * ITEMS, max_parallel=2)
    .pipe(unit("last"))
    .build()
)
QUICK: Workflow[Any, Any] = (
    define_workflow("quick", input=Count)
    .pipe(quick_first)
    .pipe(unit("never", when=Output(quick_first).value < 0))
    .parallel(unit("one"), unit("two"), fail_fast=True)
    .build()
)
WORKFLOWS = {workflow.id: workflow for workflow in (ORDER, QUICK)}
