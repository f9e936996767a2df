from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.waits import batch, purchase, questionnaire, reminder
from workflow_engine import Completion, create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.testing import FakeClock

Know = Callable[..., Any]


def reason(run: WorkflowRun, clock: FakeClock) -> str:
    run.refresh_from_db()
    return waiting_reason(run, clock.now())


def start(known: Know, host: InlineHost, workflow: Any, input: Any = None) -> WorkflowRun:
    run = create_run(known(workflow), input)
    host.drain()
    return run


def pending() -> Completion[str]:
    return Completion.pending()


def away() -> Completion[str]:
    raise ConnectionError("no route\nto host")


def test_a_stage_may_wait_for_an_answer(known: Know, host: InlineHost, clock: FakeClock) -> None:
    run = start(known, host, purchase(), {"amount": 200})

    assert reason(run, clock) == "Stage approve waits for the answer 'manager' until 2026-01-04 12:00:00 UTC."


def test_an_answer_may_have_all_the_time_in_the_world(known: Know, host: InlineHost, clock: FakeClock) -> None:
    run = start(known, host, questionnaire())

    assert reason(run, clock) == "Stage fill-in waits for the answer 'details'."


def test_the_time_for_an_answer_may_be_over(known: Know, host: InlineHost, clock: FakeClock, beat: Any) -> None:
    run = start(known, host, purchase(), {"amount": 200})
    clock.advance(timedelta(days=4))
    over = "The time for the answer 'manager' of stage approve is over; the next tick ends it."

    assert reason(run, clock) == f"{over} No worker is running. Start one with: manage.py wfe_worker."
    beat("another")
    assert reason(run, clock) == over


def test_a_stage_may_sleep(known: Know, host: InlineHost, clock: FakeClock, beat: Any) -> None:
    run = start(known, host, reminder())
    assert reason(run, clock) == "Stage remind sleeps ('a-month') until 2026-01-31 12:00:00 UTC."

    clock.advance(timedelta(days=30))
    beat("reminder")
    assert reason(run, clock) == "Stage remind has slept ('a-month'); it goes on at the next tick."


def test_a_stage_may_be_checked_later(known: Know, host: InlineHost, clock: FakeClock) -> None:
    run = start(known, host, batch(pending))
    assert reason(run, clock) == "Stage submit is checked for the first time at 2026-01-01 12:00:30 UTC."

    clock.advance(timedelta(seconds=30))
    host.drain()
    assert reason(run, clock) == "Stage submit is checked again at 2026-01-01 12:01:00 UTC (1 check so far)."


def test_checks_may_fail(known: Know, host: InlineHost, clock: FakeClock) -> None:
    run = start(known, host, batch(away))
    for _ in range(3):
        clock.move_to(StageRun.objects.get().wake_at)  # type: ignore[arg-type]
        host.drain()

    assert reason(run, clock) == (
        "Stage submit is checked again at 2026-01-01 12:01:40 UTC "
        "(3 checks so far; the last one failed: ConnectionError: no route to host)."
    )


def test_a_check_may_be_under_way(known: Know, host: InlineHost, clock: FakeClock, beat: Any) -> None:
    run, worker = start(known, host, batch(pending)), beat("batch")
    StageRun.objects.update(worker=worker)
    assert reason(run, clock) == "Stage submit is being checked by worker w1."

    clock.advance(timedelta(minutes=1))
    assert reason(run, clock) == "A check of stage submit was left by its worker w1; it is made again elsewhere."


def test_a_check_by_a_worker_that_nobody_remembers_is_told_by_its_id(
    known: Know, host: InlineHost, clock: FakeClock
) -> None:
    run, worker = start(known, host, batch(pending)), uuid.uuid4()
    StageRun.objects.update(worker=worker)

    assert reason(run, clock).startswith(f"A check of stage submit was left by its worker {worker};")


@pytest.mark.parametrize(
    ("workflows", "queues", "more"),
    [
        (("batch",), None, ""),
        (("batch",), ("mail",), " No running worker takes stages of the queue workflows."),
        (("another",), None, " No running worker knows the workflow batch: it is missing from their code."),
        (None, None, " No worker is running. Start one with: manage.py wfe_worker."),
    ],
)
def test_a_check_that_is_due_waits_for_a_worker(
    workflows: Any,
    queues: Any,
    more: str,
    known: Know,
    host: InlineHost,
    clock: FakeClock,
    beat: Any,
) -> None:
    run = start(known, host, batch(pending))
    clock.advance(timedelta(seconds=30))
    if workflows is not None:
        beat(*workflows, queues=queues)

    assert reason(run, clock) == f"Stage submit waits for a worker that takes checks of queue workflows.{more}"


def test_a_condition_may_not_be_decided_yet(
    known: Know,
    kernel: Kernel,
    host: InlineHost,
    clock: FakeClock,
    beat: Any,
    django_assert_max_num_queries: Any,
) -> None:
    run = create_run(known(purchase()), {"amount": 1})
    host.execute(host.take(run.pk)[0])
    kernel.dispatch(ClaimPendingRuns())
    beat("purchase", running=2)

    assert StageRun.objects.get(stage="approve").status == "PENDING"
    run.refresh_from_db()
    with django_assert_max_num_queries(3):
        found = waiting_reason(run, clock.now())

    assert found == (
        "Whether stage approve runs is not decided yet: its condition is looked at when it is taken. "
        "Waiting for a free worker: all 2 places are taken."
    )
