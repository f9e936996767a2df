"""Forced interleavings: one step stands still inside its transaction, holding the run, while another one begins.

The other one must be seen waiting for the lock, or leave the run alone; whoever commits first wins, and the other one
changes nothing. Each pair in both orders.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from tests.concurrency.isolation import isolation as isolation
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import Completion, Wait, answer_stage, cancel_run, create_run, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.results import Completed, Failed, StageError, StillPending, Suspended, Suspension
from workflow_engine.errors import InvalidTransition
from workflow_engine.kernel import points
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.checked import CheckOutcome, ClaimedCheck
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    FinishChecks,
    FinishStages,
    Outcome,
    PollSuspendedStages,
    ReapStaleLeases,
    ReleaseStages,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql, pytest.mark.usefixtures("isolation")]
WORKER = uuid.uuid4()
ASK = Wait("ask", int, max_wait=timedelta(microseconds=1))
NOTHING = "nothing"


@stage("only", waits=[ASK])
def only(ctx: StageContext[None]) -> int:
    raise AssertionError("its attempts are finished by hand")


@only.check_completion
def check(ctx: StageContext[None], state: Any) -> Completion[int]:
    raise AssertionError("its checks are finished by hand")


@dataclass
class Scene:
    """A run in the state from which both steps begin."""

    run: WorkflowRun
    started: StartedStage
    check: ClaimedCheck | None = None

    @property
    def is_cancelled(self) -> bool:
        return WorkflowRun.objects.get(pk=self.run.pk).status == "CANCELLED"


def running() -> Scene:
    run = create_run("barrier")
    starter = Starter(worker_id=WORKER, slots=1)
    return Scene(run, get_kernel().dispatch(ClaimPendingRuns(starter=starter)).started[0])


def finish(scene: Scene, result: Any) -> str:
    outcome = Outcome(scene.started, result, timedelta(0))
    return get_kernel().dispatch(FinishStages(outcomes=(outcome,))).finished[0].kind


def waiting() -> Scene:
    scene = running()
    finish(scene, Suspended(Suspension("answer", "ask", max_wait=ASK.max_wait)))
    return scene


def checking() -> Scene:
    scene = running()
    poll = Suspension("poll", state=inline(None), wake_in=timedelta(0), poll_every=timedelta(seconds=1))
    finish(scene, Suspended(poll))
    claimed = get_kernel().dispatch(PollSuspendedStages(worker_id=WORKER)).claimed
    return Scene(scene.run, scene.started, claimed[0])


def check_found(result: Any) -> Callable[[Scene], str]:
    def step(scene: Scene) -> str:
        assert scene.check is not None
        outcome = CheckOutcome(scene.check, result, timedelta(0))
        return get_kernel().dispatch(FinishChecks(outcomes=(outcome,))).finished[0].kind

    return step


def reap(scene: Scene) -> str:
    # The worker never beat, so its lease counts as over.
    done = get_kernel().dispatch(ReapStaleLeases())
    return "reaped" if done.released or done.failed else NOTHING


def release(scene: Scene) -> str:
    row = scene.check.stage if scene.check else scene.started
    command = ReleaseStages(worker_id=WORKER, tokens={row.stage_run_id: row.token})
    return "released" if get_kernel().dispatch(command).released else NOTHING


def start(scene: Scene) -> str:
    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    return "started" if get_kernel().dispatch(StartStages(starter=starter)).started else NOTHING


def cancel(scene: Scene) -> str:
    return "cancelled" if cancel_run(scene.run) else NOTHING


def answer(scene: Scene) -> str:
    try:
        return "answered" if answer_stage(scene.run, only, 5) else NOTHING
    except InvalidTransition:
        return NOTHING


def rerun(scene: Scene) -> str:
    try:
        return f"generation {rerun_from(scene.run, only).generation}"
    except InvalidTransition:
        return NOTHING


def cancelled() -> Scene:
    """A run that ended while its stage was running: the late attempt still holds the token of then."""
    scene = running()
    cancel_run(scene.run)
    return scene


def wake(scene: Scene) -> str:
    done = get_kernel().dispatch(WakeSuspendedStages())
    return "expired" if done.failed or done.resumed else NOTHING


ERROR = StageError("STAGE_FAILED", "Broken", "broken")
COMPLETED = Completed(inline(1))
Step = tuple[Callable[[Scene], str], str]
FINISHES: dict[str, Step] = {
    "complete": (lambda scene: finish(scene, COMPLETED), points.COMPLETE_IN_TX),
    "retry": (lambda scene: finish(scene, Failed(ERROR, timedelta(0))), points.COMPLETE_IN_TX),
    "fail": (lambda scene: finish(scene, Failed(ERROR, None)), points.COMPLETE_IN_TX),
    "suspend": (
        lambda scene: finish(scene, Suspended(Suspension("timer", "t", wake_in=timedelta(days=1)))),
        points.COMPLETE_IN_TX,
    ),
}
ENDS: dict[str, Step] = {
    "cancel": (cancel, points.CANCEL_IN_TX),
    "reclaim": (reap, points.REAP_IN_TX),
    "release": (release, points.RELEASE_IN_TX),
}
ANSWERS: dict[str, Step] = {
    "answer": (answer, points.ANSWER_IN_TX),
    "wake": (wake, points.WAKE_IN_TX),
    "cancel": (cancel, points.CANCEL_IN_TX),
}
CHECKS: dict[str, Step] = {
    "ready": (check_found(COMPLETED), points.POLL_IN_TX),
    "pending": (check_found(StillPending(None)), points.POLL_IN_TX),
    "check-failed": (check_found(Failed(ERROR, None)), points.POLL_IN_TX),
    "check-error": (check_found(Failed(ERROR, timedelta(seconds=1))), points.POLL_IN_TX),
}
CHECK_ENDS: dict[str, Step] = {"cancel": (cancel, points.CANCEL_IN_TX), "reclaim": (reap, points.REAP_IN_TX)}


def pairs(first: dict[str, Step], second: dict[str, Step]) -> Iterator[Any]:
    both = {f"{one}-before-{other}": (first[one], second[other]) for one in first for other in second if one != other}
    both |= {f"{other}-before-{one}": (second[other], first[one]) for one in first for other in second if one != other}
    for name, steps in both.items():
        yield pytest.param(*steps, id=name)


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    @stage("next")
    def following(ctx: StageContext[int]) -> int:
        return ctx.input

    known(define_workflow("barrier").pipe(only).pipe(following).build())


@contextmanager
def standing_still(step: Step, scene: Scene) -> Iterator[list[str]]:
    """Run the step in a thread up to its point, where it holds the run's lock; let it go on at the end of the block."""
    reached, let_go, results = threading.Event(), threading.Event(), []
    function, point = step

    def body() -> None:
        try:
            results.append(function(scene))
        finally:
            connections.close_all()

    thread = threading.Thread(target=body)

    def hook(name: str) -> None:
        if name == point and threading.current_thread() is thread:
            reached.set()
            assert let_go.wait(60)

    before = points.install(hook)
    try:
        thread.start()
        assert reached.wait(30), f"{point} was not reached"
        yield results
    finally:
        let_go.set()
        thread.join(60)
        points.install(before)
    assert not thread.is_alive()


WAITING = {
    "postgresql": "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id "
    "WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()",
}


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            # What InnoDB shows stays as it is while somebody looks more often than every tenth of a second.
            cursor.execute("SELECT SLEEP(0.12)")
        cursor.execute(f"SELECT count(*) {WAITING[connection.vendor]}")
        return bool(cursor.fetchone()[0])


def meet(first: Step, second: Step, scene: Scene) -> tuple[str, str, bool]:
    """Return what both steps came to, and whether the second had to wait."""
    results: list[str] = []

    def body() -> None:
        try:
            results.append(second[0](scene))
        finally:
            connections.close_all()

    thread = threading.Thread(target=body)
    with standing_still(first, scene) as firsts:
        thread.start()
        until(lambda: waits_for_a_lock() or not thread.is_alive(), "the second step waits, or leaves the run alone")
        waited = thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
    return firsts[0], results[0], waited


RERUN: Step = (rerun, points.RERUN_IN_TX)
LOST = {NOTHING, "ghost"}
CASES = {
    running: list(pairs(FINISHES, ENDS)),
    waiting: list(pairs(ANSWERS, ANSWERS)),
    checking: list(pairs(CHECKS, CHECK_ENDS)),
}


@pytest.mark.parametrize(("first", "second"), CASES[running])
def test_an_attempt_that_ends_against_whoever_takes_it_away(first: Step, second: Step) -> None:
    scene = running()

    one, other, waited = meet(first, second, scene)

    assert one not in LOST
    # A retry leaves a run that can still be cancelled, and so do those that give the stage back.
    assert other in LOST or (second[0] is cancel and scene.is_cancelled)
    assert waited or second[0] is reap
    check_all()


@pytest.mark.parametrize(("first", "second"), CASES[waiting])
def test_an_answer_against_its_deadline_and_a_cancellation(first: Step, second: Step) -> None:
    scene = waiting()

    one, other, waited = meet(first, second, scene)

    assert one not in LOST
    assert other in LOST or (second[0] is cancel and scene.is_cancelled)
    assert waited or second[0] is wake
    check_all()


@pytest.mark.parametrize(("first", "second"), CASES[checking])
def test_what_a_check_finds_against_whoever_takes_it_away(first: Step, second: Step) -> None:
    scene = checking()

    one, other, waited = meet(first, second, scene)

    assert one not in LOST
    assert other in LOST or (second[0] is cancel and scene.is_cancelled)
    assert waited or second[0] is reap
    check_all()


def test_two_answers_at_once_give_one(known: Any) -> None:
    scene = waiting()

    assert meet(ANSWERS["answer"], ANSWERS["answer"], scene) == ("answered", NOTHING, True)
    check_all()


def test_a_stage_whose_answer_is_being_given_is_not_started_before_that_is_committed(known: Any) -> None:
    scene = waiting()

    assert meet(ANSWERS["answer"], (start, ""), scene) == ("answered", NOTHING, False)
    assert start(scene) == "started"
    check_all()


def test_two_reruns_at_once_give_one_new_generation() -> None:
    assert meet(RERUN, RERUN, cancelled()) == ("generation 1", NOTHING, True)
    check_all()


@pytest.mark.parametrize("name", FINISHES)
def test_a_late_attempt_of_the_generation_before_changes_nothing_beside_a_rerun(name: str) -> None:
    scene = cancelled()

    assert meet(RERUN, FINISHES[name], scene) == ("generation 1", "ghost", True)
    assert StageRun.objects.get(run=scene.run, superseded_at=None).status == "PENDING"
    check_all()


def test_a_rerun_waits_for_the_cancellation_that_makes_it_possible() -> None:
    one, other, _ = meet(ENDS["cancel"], RERUN, running())

    # It reads first that the run still runs, and is refused; or comes to the lock, and finds it cancelled.
    assert (one, other in {NOTHING, "generation 1"}) == ("cancelled", True)
    check_all()


def test_a_cancellation_of_what_is_being_rerun_ends_the_new_generation() -> None:
    scene = cancelled()

    assert meet(RERUN, ENDS["cancel"], scene) == ("generation 1", "cancelled", True)
    assert scene.is_cancelled
    check_all()
