"""Statements that are compiled once per process: how many there are, and what they may still say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hosts.working import status_of
from tests.workflows import Number, chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import compiled

pytestmark = pytest.mark.django_db(transaction=True)


def test_another_worker_compiles_no_statement_anew(known: Any) -> None:
    known(chain(1))

    def work() -> int:
        create_run("chain", {"value": 1})
        process_available_jobs()
        return len(compiled._compiled)

    work()
    before = work()

    assert [work() for _ in range(5)] == [before] * 5


def flow(stage_id: str) -> Workflow[Any, Any]:
    @stage(stage_id)
    async def waits(ctx: StageContext[Number]) -> Number:
        return ctx.input

    return define_workflow("w", input=Number).pipe(waits).build()


def test_a_statement_of_another_registry_with_the_same_workflow_is_not_used() -> None:
    statuses: list[str] = []

    for stage_id in ("one", "two"):
        with registry_override(flow(stage_id)):
            run = create_run("w", {"value": 1})
            get_kernel().dispatch(ClaimPendingRuns())
            process_available_jobs()
            statuses.append(status_of(run))

    assert statuses == ["COMPLETED", "COMPLETED"]
