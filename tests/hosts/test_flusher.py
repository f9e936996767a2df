"""Deliveries by a worker: soon after the commit, each subscriber by itself, whoever else hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from tests.hosts.resting import RINGING, until_it_rests
from tests.hosts.working import status_of, working
from tests.invariants import check_all
from tests.outbox.hearing import EVENTS_OF_CHAIN
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import RunEvent, plugin
from workflow_engine.definitions.plugins import plugins_override
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel.commands import ReplayDeadLetters
from workflow_engine.models import DeadLetter, EventCursor, WorkflowRun

LATER = datetime(2099, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard(known: Any) -> Iterator[list[RunEvent]]:
    """What the one plugin of the test has heard."""
    known(chain(2))
    events: list[RunEvent] = []
    with plugins_override():
        plugin(on=["*"], name="hears")(events.append)
        yield events


def numbers(events: list[RunEvent], run: WorkflowRun) -> list[int]:
    return [event.sequence for event in events if event.run_id == run.pk]


def test_a_worker_delivers_what_it_does_and_what_others_did(heard: list[RunEvent]) -> None:
    runs = [create_run("chain", {"value": number}) for number in range(20)]

    with working():
        until(lambda: len(heard) == 20 * EVENTS_OF_CHAIN, "all events have come")
        late = create_run("chain", {"value": 1}, run_at=LATER)
        cancel_run(late)
        until(lambda: numbers(heard, late) == [1, 2], "events of a run that no worker touches have come")

    for run in runs:
        assert numbers(heard, run) == list(range(1, EVENTS_OF_CHAIN + 1))
    assert not EventCursor.objects.exists()
    check_all()


@pytest.mark.parametrize("workers", [2, 5])
def test_several_workers_double_nothing_and_keep_the_order(heard: list[RunEvent], workers: int) -> None:
    runs = [create_run("chain", {"value": number}) for number in range(30)]

    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(working(threads=2))
        until(lambda: len(heard) >= 30 * EVENTS_OF_CHAIN, "all events have come")
        until(lambda: not EventCursor.objects.exists(), "that is written down")

    assert {run.pk: numbers(heard, run) for run in runs} == {
        run.pk: list(range(1, EVENTS_OF_CHAIN + 1)) for run in runs
    }


def test_one_that_hangs_delays_nobody_else(heard: list[RunEvent]) -> None:
    let_go, hanging = threading.Event(), threading.Event()

    @plugin(on=["run.created"])
    def hangs(event: RunEvent) -> None:
        hanging.set()
        let_go.wait(30)

    first = create_run("chain", {"value": 1})
    try:
        with working():
            assert hanging.wait(30)
            second = create_run("chain", {"value": 2})
            until(lambda: len(heard) == 2 * EVENTS_OF_CHAIN, "the other one hears of everything")
            assert {status_of(first), status_of(second)} == {"COMPLETED"}
            let_go.set()
    finally:
        let_go.set()


def test_what_fails_is_tried_again_by_the_worker(heard: list[RunEvent]) -> None:
    tries: list[int] = []

    @plugin(on=["run.completed"])
    def fails_once(event: RunEvent) -> None:
        tries.append(event.sequence)
        if len(tries) == 1:
            raise ConnectionError("not now")

    create_run("chain", {"value": 1})
    with working():
        until(lambda: len(tries) == 2, "it was tried again")
        until(lambda: not EventCursor.objects.exists(), "it is written down")

    assert tries == [EVENTS_OF_CHAIN] * 2
    assert not DeadLetter.objects.exists()


def test_a_dead_letter_is_replayed_by_a_worker(heard: list[RunEvent]) -> None:
    run = create_run("chain", {"value": 1})
    letter = DeadLetter(run=run, sequence=1, type="run.created", subscriber="hears", tries=5, error="gone")
    letter.died_at = run.created_at
    letter.save()

    with working():
        until(lambda: len(heard) == EVENTS_OF_CHAIN, "all events have come")
        assert get_kernel().dispatch(ReplayDeadLetters()).replayed == 1
        until(lambda: not DeadLetter.objects.exists(), "it was delivered")

    assert [(event.sequence, event.is_replay) for event in heard if event.is_replay] == [(1, True)]


def test_a_burst_ends_once_everything_is_delivered(heard: list[RunEvent]) -> None:
    create_run("chain", {"value": 1})

    Worker(get_kernel(), WorkerOptions(burst=True, threads=2)).run()

    assert len(heard) == EVENTS_OF_CHAIN


@override_settings(WORKFLOW_ENGINE={**settings.WORKFLOW_ENGINE, **RINGING})
def test_what_a_ringing_transport_rings_for_is_delivered_without_a_tick(heard: list[RunEvent]) -> None:
    with working():
        until_it_rests()
        run = create_run("chain", {"value": 1}, run_at=LATER)
        cancel_run(run)

        until(lambda: numbers(heard, run) == [1, 2], "the events have come")
