"""Runs that stand somewhere in the middle, for tests of what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.maps import Importer
from workflow_engine import StageContext, Wait, Workflow, create_run, define_workflow, stage
from workflow_engine.definitions import Retry
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageMap, WorkflowRun

LOOK = Wait("look", bool, description="Is it fine?")


def until_items_ended(host: InlineHost, run: WorkflowRun, count: int) -> None:
    """Drive the run until so many items of its map have ended."""
    pending: list[StartedStage] = []
    while sum(row.ended for row in StageMap.objects.filter(run=run)) < count:
        pending = pending or host.take(run.pk)
        pending += host.execute(pending.pop(0)).next


def half_imported(known: Callable[..., Any], host: InlineHost) -> WorkflowRun:
    """Return a run with 20 items, of which 10 have ended, 2 of them by failing."""
    importer = Importer(max_parallel=4, on_item_error="collect")
    importer.bad = {1, 3}
    run = create_run(known(importer.workflow), 20)
    until_items_ended(host, run, 10)
    run.refresh_from_db()
    return run


def one_step(host: InlineHost) -> None:
    """Make one attempt of what is due."""
    (started,) = host.take()
    host.execute(started)


def reviews() -> Workflow[list[str], list[str]]:
    """review, once per text: each waits for the answer ``look``."""

    @stage("review", waits=[LOOK], retry=Retry(max_attempts=1))
    def review(ctx: StageContext[str]) -> str:
        return f"{ctx.input}: {ctx.wait_for(LOOK)}"

    return define_workflow("reviews", input=list[str]).map(review).build()
