"""Workflows that start other workflows, for many tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workflow_engine.definitions import Retry, StageContext, Workflow, define_workflow, stage


class Family:
    """``parent`` runs ``child`` (first -> last), ``parents`` one per item; inputs in ``bad`` make the child fail."""

    def __init__(self, **options: Any) -> None:
        self.bad: set[int] = set()
        self.entered: Counter[str] = Counter()

        @stage("first")
        def first(ctx: StageContext[int]) -> int:
            self.entered[f"first {ctx.input}"] += 1
            return ctx.input

        @stage("last", retry=Retry(max_attempts=1))
        def last(ctx: StageContext[int]) -> int:
            self.entered[f"last {ctx.input}"] += 1
            if ctx.input in self.bad:
                raise ValueError(f"{ctx.input} is bad")
            return ctx.input * 10

        @stage("delegate", retry=Retry(max_attempts=1))
        def delegate(ctx: StageContext[int]) -> int:
            self.entered[f"delegate {ctx.input}"] += 1
            return ctx.run_child(self.child, ctx.input)

        @stage("end")
        def end(ctx: StageContext[Any]) -> Any:
            return ctx.input

        self.child: Workflow[int, int] = define_workflow("child", input=int).pipe(first).pipe(last).build()
        self.parent = define_workflow("parent", input=int).pipe(delegate).pipe(end).build()
        self.parents = define_workflow("parents", input=list[int]).map(delegate, **options).pipe(end).build()
        self.workflows = (self.parent, self.parents, self.child)
