"""Workflows that map a stage over items, for many tests."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage


class Line(BaseModel):
    number: int
    text: str = ""


class Summary(BaseModel):
    outputs: list[int]
    failed: list[int]
    shown: int
    total: int


class Unlucky(Exception):
    """Raised for items in ``Importer.bad``."""


class Importer:
    """lines -> import-line, once per line -> summary; ``entered`` counts the bodies, items in ``bad`` raise."""

    def __init__(self, id: str = "importer", *, attempts: int = 1, **options: Any) -> None:
        self.bad: set[int] = set()
        self.entered: Counter[int] = Counter()
        self.expanded = 0

        @stage("lines")
        def lines(ctx: StageContext[int]) -> list[Line]:
            return [Line(number=number) for number in range(ctx.input)]

        @stage("import-line", retry=Retry(max_attempts=attempts, initial=timedelta(seconds=5), jitter=0))
        def import_line(ctx: StageContext[Line]) -> int:
            assert ctx.item_index == ctx.input.number
            self.entered[ctx.input.number] += 1
            if ctx.input.number in self.bad:
                raise Unlucky(f"line {ctx.input.number}")
            return ctx.input.number * 10

        @stage("summary")
        def summary(ctx: StageContext[None]) -> Summary:
            items = ctx.items(import_line)
            return Summary(
                outputs=list(items.outputs()),
                failed=[error.item for error in items.errors()],
                shown=len(list(items)),
                total=items.total,
            )

        def over(found: list[Line]) -> list[Line]:
            self.expanded += 1
            return found

        self.stages = (lines, import_line, summary)
        self.workflow: Workflow[Any, Any] = (
            define_workflow(id, input=int).pipe(lines).map(import_line, over=over, **options).pipe(summary).build()
        )
