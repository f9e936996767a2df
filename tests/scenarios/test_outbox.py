"""Events: written with what they tell or not at all, and delivered in order, to each subscriber by itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.dying import die_at
from tests.invariants import check_all, events
from tests.outbox.hearing import CHAIN, EVENTS_OF_CHAIN, Hearing, new_run
from tests.workflows import Number, chain, fan
from workflow_engine import annotate_run, cancel_run, create_run, pause_run, rerun_from, resume_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.options import WorkerOptions
from workflow_engine.hosts.worker import Worker
from workflow_engine.kernel import Kernel, points
from workflow_engine.kernel.commands import FinishStages, FlushOutbox, Outcome, ReleaseStages, ReplayDeadLetters
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import DeadLetter, EventCursor, OutboxEvent, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock


@pytest.fixture
def hearing(clock: FakeClock, known: Any, db: None) -> Iterator[Hearing]:
    known(CHAIN)
    with Hearing(clock, tries=3, one={}, other={}) as made:
        yield made


def rows() -> tuple[list[Any], list[Any], list[Any]]:
    return (
        list(WorkflowRun.objects.order_by("pk").values()),
        list(StageRun.objects.order_by("pk").values()),
        list(OutboxEvent.objects.order_by("pk").values()),
    )


def test_t53_an_event_is_written_with_what_it_tells_or_not_at_all(known: Any, kernel: Kernel, host: InlineHost) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    (started,) = host.take()
    outcome = Outcome(started, Completed(inline({"value": 2})), timedelta(0))

    for point, act in (
        (points.COMPLETE_IN_TX, lambda: kernel.dispatch(FinishStages(outcomes=(outcome,)))),
        (points.CANCEL_IN_TX, lambda: cancel_run(run)),
        (points.PAUSE_IN_TX, lambda: pause_run(run)),
        (points.CREATE_IN_TX, lambda: create_run("chain", {"value": 2})),
    ):
        before = rows()
        die_at(point, act)
        assert rows() == before, point

    kernel.dispatch(FinishStages(outcomes=(outcome,)))
    assert events(run) == ["run.created", "run.started", "stage.started", "stage.completed"]


@pytest.mark.django_db(transaction=True)
def test_t53_numbers_have_no_gaps_whoever_writes_at_the_same_time(known: Any) -> None:
    known(fan(8))
    runs = [create_run("fan", {"value": number}) for number in range(6)]

    def disturb() -> None:
        for number in range(10):
            for run in runs:
                annotate_run(run, {"seen": number})
                if pause_run(run):
                    resume_run(run)

    def work() -> None:
        Worker(get_kernel(), WorkerOptions(threads=4, burst=True)).run()

    together([work, work, disturb, disturb])
    # Those who came while a run was paused found nothing to do.
    work()

    for run in runs:
        assert events(run)[-1] == "run.completed"
    assert check_all() == len(runs)


def test_t54_a_flush_does_what_it_was_asked_for_and_a_failure_holds_up_its_own_run_only(hearing: Hearing) -> None:
    bad, good = new_run(), new_run()
    InlineHost(hearing.kernel).drain()
    hearing["one"].refuses = lambda event: event.run_id == bad.pk and event.sequence == 3

    assert hearing.flush(subscriber="").delivered == 0
    assert hearing.flush(subscriber="one", max=2).delivered == 2
    hearing.flush_all()

    assert hearing["one"].heard(bad) == [1, 2]
    assert hearing["one"].heard(good) == hearing["other"].heard(bad) == list(range(1, EVENTS_OF_CHAIN + 1))
    # What was delivered is not kept, what was not is.
    assert EventCursor.objects.values_list("run_id", "subscriber", "last_sequence").get() == (bad.pk, "one", 2)
    hearing["one"].refuses = lambda event: False
    hearing.wait(2)
    hearing.flush_all()
    assert hearing["one"].heard(bad) == list(range(1, EVENTS_OF_CHAIN + 1))


@pytest.mark.django_db(transaction=True)
def test_t54_two_who_flush_deliver_nothing_twice(known: Any, clock: FakeClock) -> None:
    known(CHAIN)
    with Hearing(clock, one={}) as hearing:
        runs = [new_run() for _ in range(20)]
        InlineHost(hearing.kernel).drain()

        def flush() -> None:
            while OutboxEvent.objects.filter(pending=True).exists() or EventCursor.objects.exists():
                hearing.kernel.dispatch(FlushOutbox(max=5))

        together([flush, flush])

    for run in runs:
        assert hearing["one"].heard(run) == list(range(1, EVENTS_OF_CHAIN + 1))
    assert set(hearing["one"].asked.values()) == {1}


def test_t55_after_its_tries_an_event_is_a_dead_letter_of_one_subscriber_and_a_replay_delivers_it(
    hearing: Hearing,
) -> None:
    runs = [new_run(), new_run()]
    InlineHost(hearing.kernel).drain()
    hearing["one"].refuses = lambda event: event.type == "run.started"
    for _ in range(3):
        hearing.flush_all()
        hearing.wait(10)
    hearing.flush_all()

    letters = DeadLetter.objects.order_by("pk")
    assert {(one.run_id, one.subscriber, one.sequence, one.tries) for one in letters} == {
        (run.pk, "one", 2, 3) for run in runs
    }
    assert "Refused: not run.started" in letters[0].error
    assert set(hearing["other"].asked.values()) == {1}
    assert all(hearing["one"].heard(run) == [1, *range(3, EVENTS_OF_CHAIN + 1)] for run in runs)

    hearing["one"].refuses = lambda event: False
    assert hearing.kernel.dispatch(ReplayDeadLetters(max=1)).replayed == 1
    hearing.flush_all()
    assert DeadLetter.objects.count() == 1
    assert hearing.kernel.dispatch(ReplayDeadLetters()).replayed == 1
    hearing.flush_all()
    assert all(hearing["one"].heard(run)[-1] == 2 for run in runs)
    assert set(hearing["other"].asked.values()) == {1}


def finish(kernel: Kernel, started: StartedStage, value: int) -> str:
    outcome = Outcome(started, Completed(inline(Number(value=value).model_dump())), timedelta(0))
    return kernel.dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def test_t57_who_holds_an_old_token_changes_nothing_and_every_claim_gives_a_new_one(
    known: Any, kernel: Kernel, host: InlineHost
) -> None:
    known(chain(1))
    run = create_run("chain", {"value": 1}, metadata={"order": 7}, annotations={"by": "anna"})
    (first,) = host.take()
    kernel.dispatch(ReleaseStages(worker_id=host.worker_id, tokens={first.stage_run_id: first.token}))
    (second,) = host.take()
    cancel_run(run)
    cancelled = StageRun.objects.get()
    rerun_from(run, "add-1")
    (third,) = host.take()

    assert (second.token > first.token, cancelled.token > second.token) == (True, True)
    before = rows()
    assert {finish(kernel, stale, 99) for stale in (first, second)} == {"ghost"}
    assert rows() == before

    assert finish(kernel, third, 5) == "completed"
    row = WorkflowRun.objects.get(pk=run.pk)
    assert (row.get_output(), row.metadata, row.generation) == ({"value": 5}, {"order": 7}, 1)
    # What the finish is not about is as it was.
    old, new = StageRun.objects.order_by("generation").values()
    assert old == {**before[1][0]}
    assert {name for name in new if new[name] != before[1][1][name]} <= {
        "status", "worker", "finished_at", "output", "metrics", "error", "progress", "progress_message"
    }  # fmt: skip
    assert uuid.UUID(str(new["id"])) == third.stage_run_id
    check_all()
