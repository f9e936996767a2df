"""A real worker process dies by SIGKILL at each crash point of suspended stages; another one takes over."""

from __future__ import annotations

import signal

import pytest
from django.db import connection

from tests.faults.processes import stop, worker_process
from tests.faults.workflows import batch, expected_of_waiting, waiting
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import Wait, answer_stage, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.errors import AlreadyAnswered
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import points
from workflow_engine.models import StageAttempt, StageMemo, StageRun, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

WAIT_POINTS = (
    points.SKIP_IN_TX,
    points.WAKE_IN_TX,
    points.POLL_CLAIMED,
    points.POLL_CHECKED,
    points.POLL_IN_TX,
    points.POLL_AFTER,
)
# Passed once only; the others a second time too, by the next wait or check.
ONCE = {points.SKIP_IN_TX}
CASES = [(point, hit) for point in WAIT_POINTS for hit in ((1,) if point in ONCE else (1, 2))]


def finished(run: WorkflowRun) -> bool:
    return not WorkflowRun.objects.open().filter(pk=run.pk).exists()


@pytest.mark.parametrize(("point", "hit"), CASES)
def test_a_worker_killed_around_a_wait_costs_nothing_but_time(point: str, hit: int) -> None:
    with registry_override(waiting):
        run = create_run(waiting, "input")
    connection.close()

    with worker_process(f"{point}:{hit}") as doomed:
        until(lambda: doomed.poll() is not None, f"the process passes {point} {hit} times and dies")
        assert doomed.poll() == -signal.SIGKILL
    with worker_process() as healthy:
        until(lambda: finished(run), "the run ends under a healthy worker")
        stop(healthy)

    check_all()
    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", expected_of_waiting("input"))
    statuses = dict(StageRun.objects.values_list("stage", "status"))
    assert statuses == {name: "SKIPPED" if name == "skipped" else "COMPLETED" for name in waiting.stage_ids}
    assert set(StageMemo.objects.values_list("kind", "name")) == {("default", "ask"), ("timer", "sleep")}
    # A batch is never submitted twice.
    submitted = StageAttempt.objects.filter(stage=batch.id, kind="body")
    assert list(submitted.values_list("outcome", flat=True)) == ["suspended"]


@pytest.mark.parametrize("point", [points.ANSWER_IN_TX, points.ANSWER_AFTER])
def test_whoever_dies_while_answering_has_answered_or_not(point: str) -> None:
    question = Wait("question", int)

    @stage("asks", waits=[question])
    def asks(ctx: StageContext[None]) -> int:
        return ctx.wait_for(question)

    with registry_override(define_workflow("asking").pipe(asks).build()):
        run, host = create_run("asking"), InlineHost(get_kernel())
        host.drain()
        hook = points.install(points.hook_from(f"{point}:1:raise"))
        try:
            with pytest.raises(points.Crash):
                answer_stage(run, asks, 1)
        finally:
            points.install(hook)
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
