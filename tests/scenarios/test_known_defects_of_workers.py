"""Situations in which workers of an engine of this kind harm runs: P10, P12, P16 to P18 of the comparison page."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from tests.concurrency.threads import together
from tests.dying import die_at
from tests.hosts.working import status_of, working
from tests.invariants import check_all, events
from tests.janitors import pass_time, worker
from tests.waiting import until
from tests.waits import batch
from tests.workflows import Number, add_stage, chain
from workflow_engine import Completion, StageContext, create_run, define_workflow, rerun_from, stage
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import RunEvent, plugin
from workflow_engine.definitions.plugins import plugins_override
from workflow_engine.definitions.registry import registry_override
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel import Kernel, points
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, Prune, StartStages
from workflow_engine.kernel.commands.start_stages import StartStagesResult
from workflow_engine.kernel.ports import Message
from workflow_engine.models import StageAttempt, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock, create_test_kernel
from workflow_engine.testing.kernels import SilentTransport

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
at_the_same_time = pytest.mark.django_db(transaction=True)


@at_the_same_time
def test_p10_a_check_that_never_returns_keeps_no_claim_no_reap_and_no_event_waiting(known: Any, settings: Any) -> None:
    settings.WORKFLOW_ENGINE = {"TICK_SECONDS": 0.2, "POLL_SECONDS": 0.05}
    hangs, leave, heard = threading.Event(), threading.Event(), list[RunEvent]()

    def check() -> Completion[str]:
        hangs.set()
        leave.wait(120)
        return Completion.ready("at last")

    elsewhere = define_workflow("elsewhere", input=Number).pipe(add_stage("far", queue="elsewhere")).build()
    known(batch(check), chain(2), elsewhere)
    hanging = create_run("batch")
    InlineHost(get_kernel()).drain()
    StageRun.objects.update(wake_at=timezone.now())
    with plugins_override():
        plugin(on=["run.completed"], name="hears")(heard.append)
        with working(queues=("workflows",)):
            try:
                until(hangs.is_set, "the check hangs")
                lost, other = create_run("elsewhere", {"value": 1}), create_run("chain", {"value": 1})
                until(lambda: status_of(lost) == "RUNNING", "a run is claimed")
                # By a worker that is dead: it never beats.
                get_kernel().dispatch(StartStages(starter=Starter(worker_id=uuid.uuid4(), slots=1), run_id=lost.pk))
                until(lambda: StageAttempt.objects.filter(run=lost, outcome="lost").exists(), "its stage is taken back")
                until(lambda: [event.run_id for event in heard] == [other.pk], "another run has ended and that is told")
                assert StageRun.objects.get(run=hanging).status == "SUSPENDED"
            finally:
                leave.set()
            until(lambda: status_of(hanging) == "COMPLETED", "the check has returned")
    check_all()


class FastTransport(SilentTransport):
    """Has a worker, once ``work`` is set, that is done before ``push`` has returned."""

    work: Callable[[], object] | None = None

    def push(self, messages: Sequence[Message]) -> None:
        super().push(messages)
        work, self.work = self.work, None
        if work is not None:
            together([work])


@at_the_same_time
def test_p12_a_worker_that_is_faster_than_the_claim_finds_nothing_or_a_run_that_runs(
    known: Any, clock: FakeClock
) -> None:
    known(chain(2))
    transport, early = FastTransport(), list[Any]()
    kernel = create_test_kernel(clock=clock, transport=transport)

    def look(name: str) -> None:
        if name == points.CLAIM_IN_TX:
            points.install(None)
            starter = Starter(worker_id=uuid.uuid4(), slots=1)
            # On a connection of its own.
            early.extend(together([lambda: kernel.dispatch(StartStages(starter=starter))]))
            early.append(list(transport.pushed))

    with use_kernel(kernel):
        run = create_run("chain", {"value": 1})
    transport.pushed.clear()
    transport.work = InlineHost(kernel).drain
    before = points.install(look)
    try:
        kernel.dispatch(ClaimPendingRuns())
    finally:
        points.install(before)

    assert early == [StartStagesResult(), []]
    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", {"value": 3})
    assert set(StageAttempt.objects.values_list("outcome", flat=True)) == {"completed"}
    check_all()


@at_the_same_time
def test_p16_an_error_of_the_database_while_one_run_is_claimed_is_that_runs_alone(known: Any, kernel: Kernel) -> None:
    known(chain(1))
    first, bad, last = (create_run("chain", {"value": 1}).pk for _ in range(3))

    ContentType.objects.get_for_model(WorkflowRun)
    passed: list[str] = []

    def break_the_transaction(name: str) -> None:
        passed.append(name)
        # All together, then each alone; the second one is tried twice.
        if name == points.CLAIM_IN_TX and passed.count(name) in (1, 3, 4):
            # There is such a row already: on PostgreSQL no statement of this transaction succeeds after it.
            ContentType.objects.bulk_create([ContentType(app_label="workflow_engine", model="workflowrun")])

    before = points.install(break_the_transaction)
    try:
        result = kernel.dispatch(ClaimPendingRuns())
    finally:
        points.install(before)

    assert (result.claimed, result.failed) == ((first, last), (bad,))
    assert WorkflowRun.objects.get(pk=bad).error["code"] == "CLAIM_FAILED"
    InlineHost(kernel).drain()
    assert [WorkflowRun.objects.get(pk=pk).status for pk in (first, last)] == ["COMPLETED"] * 2
    check_all()


def test_p17_a_host_without_the_new_workflow_leaves_its_runs_to_those_that_have_it(
    known: Any, kernel: Kernel, clock: FakeClock
) -> None:
    new = known(chain(2))
    old_worker, new_worker = worker({"other": ["x"]}), worker({"chain": ["add-1", "add-2"]})
    begun, waiting = create_run(new, {"value": 1}), create_run(new, {"value": 1})
    kernel.dispatch(ClaimPendingRuns(run_id=begun.pk))
    with registry_override():
        for _ in range(6):
            pass_time(kernel, clock, timedelta(minutes=9), old_worker)
            assert InlineHost(kernel).drain() == 0
            Orchestrator(kernel).tick()
        # The roll-out goes on, and takes long: from here on one host has the new code.
        for _ in range(6):
            pass_time(kernel, clock, HOUR, old_worker, new_worker)
            assert InlineHost(kernel).drain() == 0
            Orchestrator(kernel).tick()
        assert {WorkflowRun.objects.get(pk=run.pk).status for run in (begun, waiting)} == {"RUNNING", "PENDING"}

    InlineHost(kernel).drain()
    assert {WorkflowRun.objects.get(pk=run.pk).status for run in (begun, waiting)} == {"COMPLETED"}
    check_all()


@pytest.mark.parametrize("dies", [False, True])
def test_p18_a_late_or_repeated_clean_up_after_a_rerun_deletes_nothing_of_the_new_attempt(
    known: Any, kernel: Kernel, host: InlineHost, clock: FakeClock, dies: bool
) -> None:
    @stage("large")
    def large(ctx: StageContext[None]) -> str:
        ctx.artifact("page.txt", f"generation {ctx.generation}")
        return str(ctx.generation) * 100_000

    run = create_run(known(define_workflow("larges").pipe(large).build()))
    host.drain()
    clock.advance(3 * DAY)
    if dies:
        die_at(points.RERUN_AFTER, lambda: rerun_from(run, "large"))
    else:
        rerun_from(run, "large")

    def clean_up(name: str = points.BLOB_PUT) -> None:
        if name == points.BLOB_PUT:
            kernel.dispatch(Prune(what="blobs", older_than=DAY))

    clean_up()
    before = points.install(clean_up)
    try:
        host.drain()
    finally:
        points.install(before)
    for _ in range(3):
        clean_up()
        clock.advance(2 * DAY)

    run.refresh_from_db()
    assert (run.status, run.generation, run.get_output()) == ("COMPLETED", 1, "1" * 100_000)
    assert [row.get_output()[0] for row in StageRun.objects.order_by("generation")] == ["0", "1"]
    files = {item.stage_run.generation: item.read() for item in run.artifacts.all()}
    assert files == {0: b"generation 0", 1: b"generation 1"}
    assert events(run).count("run.completed") == 2
    check_all()
