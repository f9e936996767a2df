"""Everything that a stage's body may leave behind, as bodies that leave hostile values there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from workflow_engine.definitions import Completion, Retry, StageContext, Workflow, define_workflow, stage
from workflow_engine.errors import WorkflowEngineError

from .corpus import LARGE, VALUES
from .verdicts import REFUSED

# What each tool was called with, by the number of the call: names must not be hostile where only the value is.
Tool = Callable[[StageContext[Any], Any, int], Any]
TOOLS: dict[str, Tool] = {
    "ctx.log message": lambda ctx, value, number: ctx.log.info(value),
    "ctx.log field": lambda ctx, value, number: ctx.log.info(f"field {number}", field=value),
    "ctx.progress message": lambda ctx, value, number: ctx.progress(1, value),
    "ctx.progress detail": lambda ctx, value, number: ctx.progress(1, "", detail=value),
    "ctx.progress percent": lambda ctx, value, number: ctx.progress(value),
    "ctx.metric name": lambda ctx, value, number: ctx.metric(value, 1),
    "ctx.metric value": lambda ctx, value, number: ctx.metric(f"m{number}", value),
    "ctx.annotate key": lambda ctx, value, number: ctx.annotate(value, number, emit_event=True),
    "ctx.annotate value": lambda ctx, value, number: ctx.annotate(f"a{number}", value, emit_event=True),
    "ctx.annotate actor": lambda ctx, value, number: ctx.annotate(f"a{number}", 1, actor=value),
    "ctx.artifact name": lambda ctx, value, number: ctx.artifact(value, b"a"),
    "ctx.artifact type": lambda ctx, value, number: ctx.artifact(f"f{number}", b"a", content_type=value),
    "ctx.artifact data": lambda ctx, value, number: ctx.artifact(f"f{number}", value),
    "ctx.once name": lambda ctx, value, number: ctx.once(value, lambda: 1),
    "ctx.once result": lambda ctx, value, number: ctx.once(f"o{number}", lambda: value),
    "ctx.storage key": lambda ctx, value, number: ctx.storage.save(value, 1),
    "ctx.storage value": lambda ctx, value, number: ctx.storage.save(f"s{number}", value),
}


def using(tool: Tool, verdicts: dict[str, str], wrong: list[tuple[str, BaseException]]) -> Workflow[Any, Any]:
    """Return a workflow whose one body uses a tool with every value, and goes on after what is refused."""

    @stage("use")
    def use(ctx: StageContext[Any]) -> None:
        for number, (name, make) in enumerate((VALUES | LARGE).items()):
            try:
                tool(ctx, make(), number)
            except WorkflowEngineError as error:
                assert str(error)
                verdicts[name] = REFUSED
            except Exception as error:
                wrong.append((name, error))

    return define_workflow("use", input=Any).pipe(use).build()


def ending(how: str) -> tuple[Workflow[Any, Any], Workflow[Any, Any]]:
    """Return a workflow that ends one item per value in some way, and the one that it may start.

    Each item's input is the value's name.
    """
    child = define_workflow("child", input=Any).pipe(_same()).build()

    @stage("end", retry=Retry(max_attempts=1))
    def end(ctx: StageContext[str]) -> Any:
        value = (VALUES | LARGE)[ctx.input]()
        if how == "output":
            return value
        if how == "state":
            ctx.suspend(value, poll_every=timedelta(seconds=1))
        return ctx.run_child(child, value)

    @end.check_completion
    def check(ctx: StageContext[str], state: Any) -> Completion[Any]:
        return Completion.ready(state)

    workflow = define_workflow("end", input=list[str]).map(end, on_item_error="collect", max_parallel=500).build()
    return workflow, child


def _same() -> Any:
    @stage("same")
    def same(ctx: StageContext[Any]) -> Any:
        return ctx.input

    return same


def mapping(make: Callable[[], Any]) -> Workflow[Any, Any]:
    """Return a workflow that maps a stage over two items, one of them hostile."""

    @stage("each", retry=Retry(max_attempts=1))
    def each(ctx: StageContext[Any]) -> Any:
        return ctx.input

    return define_workflow("mapped", input=Any).map(each, over=lambda found: [make(), 1]).build()
