"""A workflow for tests of reruns: what each body saw is recorded, and stages fail when they are told to."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from tests.workflows import Broken, Number
from workflow_engine.definitions import Retry, Stage, StageContext, Workflow, define_workflow, stage
from workflow_engine.models import StageRun, WorkflowRun


class Step(BaseModel):
    amount: int = 1
    word: str = "none"


class Journey:
    """first -> (left, right) -> last; ``entered`` counts the bodies, stages in ``broken`` raise."""

    def __init__(self, id: str = "journey", timeout: timedelta | None = None) -> None:
        self.broken: set[str] = set()
        self.entered: Counter[str] = Counter()
        self.words: dict[str, str] = {}
        self.workflow: Workflow[Any, Any] = (
            define_workflow(id, input=Number, timeout=timeout)
            .pipe(self._stage("first"))
            .parallel(self._stage("left"), self._stage("right"))
            .pipe(self._last())
            .build()
        )

    def _stage(self, id: str) -> Stage[Number, Step, Number]:
        @stage(id, retry=Retry(max_attempts=1))
        def body(ctx: StageContext[Number, Step]) -> Number:
            self._enter(ctx)
            return Number(value=ctx.input.value + ctx.config.amount)

        return body

    def _last(self) -> Stage[dict[str, Number], Step, Number]:
        @stage("last", retry=Retry(max_attempts=1))
        def body(ctx: StageContext[dict[str, Number], Step]) -> Number:
            self._enter(ctx)
            return Number(value=sum(item.value for item in ctx.input.values()) + ctx.config.amount)

        return body

    def _enter(self, ctx: StageContext[Any, Step]) -> None:
        self.entered[ctx.stage_id] += 1
        self.words[ctx.stage_id] = ctx.config.word
        ctx.metric("cost", 0.5)
        ctx.metric("tokens", 100)
        ctx.storage.save("seen", ctx.generation)
        ctx.artifact(f"{ctx.stage_id}.txt", f"generation {ctx.generation}")
        if ctx.stage_id in self.broken:
            raise Broken(ctx.stage_id)


def rows(run: WorkflowRun) -> list[tuple[str, str, int]]:
    """Return stage, status and generation of the rows that count, in order."""
    found = StageRun.objects.current().filter(run=run).in_order()
    return list(found.values_list("stage", "status", "generation"))


def fresh(run: WorkflowRun) -> WorkflowRun:
    """Return the run as it is now."""
    return WorkflowRun.objects.select_related("data").get(pk=run.pk)
