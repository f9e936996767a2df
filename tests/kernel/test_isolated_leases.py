"""Stages in processes of their own, and the death of the worker beside them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from workflow_engine import create_run
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, ReapStaleLeases
from workflow_engine.models import StageRun
from workflow_engine.testing import FakeClock


def test_a_worker_that_died_while_a_process_ran_the_body_says_nothing_about_the_stage(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    @stage("apart", isolation="process")
    def apart(ctx: StageContext[None]) -> None:
        pass

    create_run(known(define_workflow("w").pipe(apart).build()))
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=uuid.uuid4(), slots=1, alone=True)))
    clock.advance(timedelta(minutes=5))

    released = kernel.dispatch(ReapStaleLeases()).released

    row = StageRun.objects.get()
    assert released == (row.pk,)
    assert (row.status, row.crashes, row.suspect) == ("PENDING", 0, False)


def test_no_more_is_started_than_asked_for_whatever_kind_it_is(known: Any, kernel: Kernel) -> None:
    @stage("plain")
    def plain(ctx: StageContext[None]) -> None:
        pass

    @stage("waits")
    async def waits(ctx: StageContext[None]) -> None:
        pass

    known(define_workflow("w1").pipe(plain).build(), define_workflow("w2").pipe(waits).build())
    for name in ("w1", "w2", "w1", "w2"):
        create_run(name)
    starter = Starter(worker_id=uuid.uuid4(), slots=8, tasks=1000, most=3)

    result = kernel.dispatch(ClaimPendingRuns(starter=starter))

    assert len(result.started) == 3
