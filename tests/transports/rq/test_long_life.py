"""One run through everything: suspended, all processes killed, Redis emptied, approved, cancelled and rerun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from tests.faults.processes import stop, worker_process
from tests.faults.workflows import approve, expected_of_expense, expense, payday
from tests.invariants import check_all, events
from tests.transports.rq.servers import RedisServer
from tests.waiting import until
from workflow_engine import answer_stage, cancel_run, create_run, rerun_from
from workflow_engine.definitions.registry import registry_override
from workflow_engine.models import StageMemo, StageRun, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis, pytest.mark.slow]
SETTINGS = "tests.transports.rq.settings"


@pytest.fixture(autouse=True)
def _known(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WFE_TEST_OWN_REDIS_URL", server.url)
    with registry_override(expense):
        yield


def worker() -> Any:
    return worker_process(settings_module=SETTINGS)


def waits(run: WorkflowRun, stage_id: str) -> bool:
    return StageRun.objects.current().filter(run=run, stage=stage_id, status="SUSPENDED").exists()


def test_a_run_lives_through_everything(redis: Redis) -> None:
    run = create_run(expense, "claim")
    with worker() as first, worker() as second:
        until(lambda: waits(run, "approve"), "the stage waits for its manager")
        first.kill()
        second.kill()
    redis.flushall()
    assert waits(run, "approve")

    with worker() as third:
        answer_stage(run, approve, {"text": "yes"}, actor="ada")
        until(lambda: waits(run, "payday"), "the approved run sleeps until its pay day")
        assert cancel_run(run, reason="wrong account", actor="ada")
        assert WorkflowRun.objects.get(pk=run.pk).status == "CANCELLED"
        third.kill()
    redis.flushall()

    with worker() as fourth:
        rerun_from(run, approve, config={payday.id: {"seconds": 0.1}}, actor="bob")
        until(lambda: waits(run, "approve"), "the new generation waits for its manager")
        answer_stage(run, approve, {"text": "yes, again"}, actor="ada")
        until(lambda: WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED", "the run has ended")
        stop(fourth)

    run = WorkflowRun.objects.select_related("data").get(pk=run.pk)
    assert (run.generation, run.get_output()) == (1, expected_of_expense("claim", "yes, again"))
    assert [event for event in events(run) if event.startswith("run.")] == [
        "run.created",
        "run.started",
        "run.suspended",
        "run.suspended",
        "run.cancelled",
        "run.rerun",
        "run.suspended",
        "run.suspended",
        "run.completed",
    ]
    answers = StageMemo.objects.filter(kind="answer").order_by("id")
    assert [memo.get_value()["text"] for memo in answers] == ["yes", "yes, again"]
    kept = StageRun.objects.get(run=run, stage="begin")
    assert (kept.generation, kept.superseded_at) == (0, None)
    assert check_all() == 1
