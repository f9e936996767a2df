"""What becomes of attempts that fail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from workflow_engine import NonRetryableError, Retry, RetryAfter, StageContext, create_run, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

GROWING = Retry(max_attempts=4, initial=timedelta(seconds=2), factor=3.0, maximum=timedelta(seconds=10), jitter=0)


def waits_of(run: WorkflowRun, host: InlineHost, clock: FakeClock) -> list[float]:
    """Run everything, moving the clock to each due time; return the seconds that were waited."""
    waits = []
    host.drain()
    while (row := StageRun.objects.filter(run=run, status="PENDING").first()) is not None:
        waits.append((row.due_at - clock.now()).total_seconds())
        clock.move_to(row.due_at - timedelta(milliseconds=1))
        assert host.drain() == 0, "it was started before its time"
        clock.move_to(row.due_at)
        host.drain()
    run.refresh_from_db()
    return waits


def test_t25_a_failing_body_is_tried_again_with_growing_waits_and_then_fails_with_its_own_error(
    known: Any, host: InlineHost, clock: FakeClock
) -> None:
    @stage("fails", retry=GROWING)
    def fails(ctx: StageContext[None]) -> None:
        raise ConnectionError(f"attempt {ctx.attempt}")

    @stage("never")
    def never(ctx: StageContext[None]) -> None:
        raise AssertionError

    run = create_run(known(define_workflow("w").pipe(fails).pipe(never).build()))

    assert waits_of(run, host, clock) == [2, 6, 10]
    expected = {"code": "STAGE_FAILED", "class": "ConnectionError", "message": "attempt 4"}
    assert (run.status, run.error) == ("FAILED", {**expected, "stage": "fails"})
    # At once: the stage and its run end in the same moment.
    row = StageRun.objects.get()
    assert (row.status, row.error, row.finished_at) == ("FAILED", expected, run.finished_at)
    check_all()


def test_t26_a_retry_that_succeeds_leaves_no_error_and_every_attempt_is_recorded(
    known: Any, host: InlineHost, clock: FakeClock
) -> None:
    @stage("recovers", retry=GROWING)
    def recovers(ctx: StageContext[None]) -> str:
        if ctx.attempt < 3:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return "recovered"

    run = create_run(known(define_workflow("w").pipe(recovers).build()))

    assert waits_of(run, host, clock) == [2, 6]
    assert (run.status, run.error, run.get_output()) == ("COMPLETED", None, "recovered")
    row = StageRun.objects.get()
    assert (row.error, row.attempt, row.failures) == (None, 3, 2)
    attempts = StageAttempt.objects.order_by("attempt").values_list(
        "attempt", "outcome", "error_class", "error_message"
    )
    assert list(attempts) == [
        (1, "retrying", "ConnectionError", "attempt 1"),
        (2, "retrying", "ConnectionError", "attempt 2"),
        (3, "completed", "", ""),
    ]
    assert [event.type for event in run.events.order_by("sequence")].count("stage.retrying") == 2
    check_all()


@pytest.mark.parametrize("delay", [30, 30.0, timedelta(seconds=30)])
def test_a_body_may_say_in_seconds_when_it_wants_to_be_tried_again(
    known: Any, host: InlineHost, clock: FakeClock, delay: Any
) -> None:
    @stage("asks", retry=GROWING)
    def asks(ctx: StageContext[None]) -> str:
        if ctx.attempt == 1:
            raise RetryAfter(delay)
        return "answered"

    run = create_run(known(define_workflow("w").pipe(asks).build()))

    assert waits_of(run, host, clock) == [30]
    assert run.status == "COMPLETED"
    assert StageAttempt.objects.get(attempt=1).error_message == "asked to be tried again after 30 s"


@pytest.mark.parametrize("delay", [-1, True, "30", None, timedelta(seconds=-1)])
def test_an_odd_delay_is_refused_where_it_is_written(delay: Any) -> None:
    with pytest.raises(ValueError, match="RetryAfter takes a timedelta or seconds, 0 or more, got"):
        RetryAfter(delay)


def test_asking_for_later_spends_the_same_budget(known: Any, host: InlineHost, clock: FakeClock) -> None:
    @stage("asks", retry=Retry(max_attempts=2))
    def asks(ctx: StageContext[None]) -> None:
        raise RetryAfter(1, "busy")

    run = create_run(known(define_workflow("w").pipe(asks).build()))

    assert waits_of(run, host, clock) == [1]
    assert (run.status, run.error["class"], run.error["message"]) == ("FAILED", "RetryAfter", "busy")


def test_a_body_may_give_up_at_once(known: Any, host: InlineHost, clock: FakeClock) -> None:
    @stage("gives-up", retry=GROWING)
    def gives_up(ctx: StageContext[None]) -> None:
        raise NonRetryableError("there is no such order")

    run = create_run(known(define_workflow("w").pipe(gives_up).build()))

    assert waits_of(run, host, clock) == []
    assert (run.status, run.error["message"]) == ("FAILED", "there is no such order")
