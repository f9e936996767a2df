"""Wake-ups that were lost where nobody polls, so that work lay there until the next tick."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tests.hosts.resting import RINGING, holding, until_it_rests
from tests.hosts.working import status_of, working
from tests.limits.workflows import Order, limited
from tests.waiting import until
from tests.workflows import Number, chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Limit, Rate, StageContext, define_workflow, stage
from workflow_engine.hosts.taking import Taker
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_polls(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WORKFLOW_ENGINE = RINGING
    # Only a bell or a due time wakes: without one a test waits in vain.
    monkeypatch.setattr("workflow_engine.hosts.worker.LONGEST_REST_SECONDS", 3600)


@pytest.mark.postgresql
@pytest.mark.parametrize("claimed", [True, False], ids=["due stage", "pending run"])
def test_work_that_was_seen_while_somebody_held_it_is_taken_soon_after(known: Any, claimed: bool) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1})
    if claimed:
        get_kernel().dispatch(ClaimPendingRuns(run_id=run.pk))

    with ExitStack() as stack:
        with holding(run):
            stack.enter_context(working(threads=2))
            until_it_rests(2)
        until(lambda: status_of(run) == "COMPLETED", "it is taken although nobody rings")


def test_work_that_was_rung_for_while_the_lease_was_over_is_taken_once_it_is_renewed(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(chain(1))
    real = Worker.beat
    beats: list[Worker] = []

    def beat(worker: Worker) -> None:
        real(worker)
        beats.append(worker)

    monkeypatch.setattr(Worker, "beat", beat)
    with working(threads=2) as worker:
        until(lambda: len(beats) == 2, "both beats of the start, which would renew it")
        worker.lease.renewed(sent_at=-1e9)
        run = create_run("chain", {"value": 1})
        until_it_rests(2)
        worker.beat()
        until(lambda: status_of(run) == "COMPLETED", "it is taken once the lease is renewed")


def test_what_falls_due_between_the_look_and_the_question_when_is_not_missed(
    known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1}, run_at=timezone.now() + timedelta(hours=1))
    ask, asked = Taker.next_due_in, threading.Event()

    def ask_late(taker: Taker) -> float | None:
        if not asked.is_set():
            asked.set()
            now = timezone.now()
            WorkflowRun.objects.update(due_at=now, rank_at=now)
        return ask(taker)

    monkeypatch.setattr(Taker, "next_due_in", ask_late)
    with working(threads=2):
        until(lambda: status_of(run) == "COMPLETED", "it is started without a bell")

    assert asked.is_set()


def test_a_slot_that_becomes_free_just_before_the_rest_is_used(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go, entered, raced = threading.Event(), threading.Event(), threading.Event()
    rest = Worker._rest

    @stage("holds")
    def holds(ctx: StageContext[Number]) -> Number:
        entered.set()
        go.wait(30)
        return ctx.input

    # With an async stage among them the worker rests also when its slots are taken.
    @stage("waits")
    async def waits(ctx: StageContext[Number]) -> Number:
        return ctx.input

    def rest_late(worker: Worker) -> bool:
        if worker.held.in_slots and not raced.is_set():
            raced.set()
            entered.wait(30)
            go.set()
            until(lambda: not worker.held.in_slots and not worker.runner.finisher.is_leading, "the slot is free")
        return rest(worker)

    known(
        define_workflow("holds", input=Number).pipe(holds).build(),
        define_workflow("waits", input=Number).pipe(waits).build(),
        chain(1),
    )
    monkeypatch.setattr(Worker, "_rest", rest_late)
    with working(threads=1):
        until_it_rests()
        with transaction.atomic():
            create_run("holds", {"value": 1}, priority=10)
            run = create_run("chain", {"value": 1})
        until(lambda: status_of(run) == "COMPLETED", "the free slot is used without a bell")

    assert raced.is_set()


def test_runs_that_a_limit_counts_begin_without_a_tick(known: Any) -> None:
    known(limited(Limit(1, rate=Rate(2, per=timedelta(seconds=1)))))
    with working(threads=2):
        until_it_rests()
        later = create_run("limited", Order(), run_at=timezone.now() + timedelta(seconds=1))
        runs = [create_run("limited", Order()) for _ in range(4)]
        until(lambda: all(status_of(run) == "COMPLETED" for run in (*runs, later)), "one after the other begins")
