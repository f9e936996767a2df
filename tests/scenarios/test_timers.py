"""Durable timers: sleeping for seconds or months without holding a worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.invariants import check_all
from workflow_engine import create_run
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import StageMemo, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, run_workflow, stage_context

pytestmark = pytest.mark.django_db
CALLS: list[str] = []


@stage("remind")
def remind(ctx: StageContext[None]) -> list[str]:
    CALLS.append("top")
    ctx.sleep(timedelta(days=30), name="a-month")
    CALLS.append("after a month")
    ctx.sleep(timedelta(days=1), name="a-day")
    return [*CALLS]


@pytest.fixture(autouse=True)
def _known(known: Callable[..., Any]) -> None:
    CALLS.clear()
    known(define_workflow("reminder").pipe(remind).build())


def test_a_sleeping_stage_holds_nothing_and_goes_on_when_its_time_is_over(host: InlineHost, clock: FakeClock) -> None:
    run, began = create_run("reminder"), clock.now()
    host.drain()
    row = StageRun.objects.get()
    assert (row.status, row.wait_kind, row.wait_name, row.worker) == ("SUSPENDED", "timer", "a-month", None)
    assert row.wake_at == began + timedelta(days=30)
    clock.advance(timedelta(days=29, hours=23))
    assert host.drain() == 0

    clock.advance(timedelta(hours=1))
    host.drain()
    assert StageRun.objects.get().wake_at == clock.now() + timedelta(days=1)
    clock.advance(timedelta(days=1))
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED"
    assert run.get_output() == ["top", "top", "after a month", "top", "after a month"]
    assert set(StageMemo.objects.values_list("kind", "name")) == {("timer", "a-month"), ("timer", "a-day")}
    check_all()


def test_a_time_that_has_passed_is_no_wait(known: Callable[..., Any], host: InlineHost, clock: FakeClock) -> None:
    @stage("hurry")
    def hurry(ctx: StageContext[None]) -> str:
        ctx.sleep(timedelta(0))
        ctx.sleep(timedelta(seconds=-5), name="back")
        ctx.sleep_until(ctx.now() - timedelta(days=1), name="yesterday")
        return "done"

    known(define_workflow("hurries").pipe(hurry).build())
    run = create_run("hurries")
    host.drain()

    run.refresh_from_db()
    assert (run.get_output(), StageMemo.objects.count()) == ("done", 0)


def test_sleep_until_waits_for_an_exact_time(known: Callable[..., Any], host: InlineHost, clock: FakeClock) -> None:
    when = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)

    @stage("spring")
    def spring(ctx: StageContext[None]) -> str:
        ctx.sleep_until(when)
        return ctx.now().isoformat()

    known(define_workflow("springs").pipe(spring).build())
    run = create_run("springs")
    host.drain()
    clock.move_to(when - timedelta(seconds=1))
    assert host.drain() == 0
    clock.move_to(when)
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == when.isoformat()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda ctx: ctx.sleep(5), "must be a timedelta (at most 100 years) or a time with a time zone, got 5"),
        (lambda ctx: ctx.sleep_until(datetime(2027, 1, 1)), "a time with a time zone"),
        (lambda ctx: ctx.sleep(timedelta(days=1), name=""), "must be text of 1 to 100 characters"),
        (lambda ctx: ctx.sleep(timedelta(days=1), name="n" * 101), "must be text of 1 to 100 characters"),
        (lambda ctx: ctx.sleep(timedelta.max), "at most 100 years"),
    ],
    ids=["number", "naive", "no-name", "long-name", "too-long"],
)
def test_nonsense_is_refused_for_good_with_the_value(
    known: Callable[..., Any], host: InlineHost, call: Callable[[Any], Any], text: str
) -> None:
    @stage("odd")
    def odd(ctx: StageContext[None]) -> None:
        call(ctx)

    known(define_workflow("odd-sleep").pipe(odd).build())
    run = create_run("odd-sleep")
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.error["code"], StageRun.objects.get(run=run).attempt) == ("FAILED", "INVALID_INPUT", 1)
    assert text in run.error["message"]


def test_many_sleepers_are_woken_in_batches(host: InlineHost, clock: FakeClock) -> None:
    runs = [create_run("reminder") for _ in range(250)]
    host.drain()
    clock.advance(timedelta(days=30))

    host.drain()

    assert StageRun.objects.filter(status="SUSPENDED", wait_name="a-day").count() == len(runs)


def test_run_workflow_jumps_over_sleeps_and_stage_context_counts_them_as_over(db: None) -> None:
    workflow = define_workflow("jumps").pipe(remind).build()

    result = run_workflow(workflow)
    context = stage_context(remind)
    remind(context)

    assert result.status == "COMPLETED"
    assert context.desk.slept == ["a-month", "a-day"]


def test_a_run_that_starts_later_is_not_touched_before(host: InlineHost, clock: FakeClock) -> None:
    run = create_run("reminder", run_at=clock.now() + timedelta(days=7))
    clock.advance(timedelta(days=6))
    assert host.drain() == 0
    clock.advance(timedelta(days=1))

    assert host.drain() == 1
    assert WorkflowRun.objects.get(pk=run.pk).status == "RUNNING"
