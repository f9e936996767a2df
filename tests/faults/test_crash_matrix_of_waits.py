"""A real worker process dies by SIGKILL at each crash point of suspended stages; another one takes over."""

from __future__ import annotations

import pytest

from tests.faults.callers import killed_caller
from tests.invariants import check_all
from workflow_engine import Wait, answer_stage, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.errors import AlreadyAnswered
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import points
from workflow_engine.models import StageMemo, StageRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
ANSWER_POINTS = (points.ANSWER_IN_TX, points.ANSWER_AFTER)


@pytest.mark.parametrize("point", ANSWER_POINTS)
def test_whoever_dies_while_answering_has_answered_or_not(point: str) -> None:
    question = Wait("question", int)

    @stage("asks", waits=[question])
    def asks(ctx: StageContext[None]) -> int:
        return ctx.wait_for(question)

    with registry_override(define_workflow("asking").pipe(asks).build()):
        run, host = create_run("asking"), InlineHost(get_kernel())
        host.drain()
        killed_caller(point, lambda: answer_stage(run, asks, 1))
        if point == points.ANSWER_IN_TX:
            assert (StageRun.objects.get().status, StageMemo.objects.count()) == ("SUSPENDED", 0)
            answer_stage(run, asks, 2)
        else:
            with pytest.raises(AlreadyAnswered):
                answer_stage(run, asks, 2)
        host.drain()

    run.refresh_from_db()
    assert run.get_output() == (2 if point == points.ANSWER_IN_TX else 1)
    check_all()
