"""Paused workflows and queues: nothing new of them starts, on any of the ways on which something could."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.kernel.test_pausing_runs import outcome, pushed, starter
from tests.workflows import Number, add_stage, chain, fan
from workflow_engine import (
    create_run,
    pause_queue,
    pause_workflow,
    resume_queue,
    resume_workflow,
)
from workflow_engine.bootstrap import get_kernel, use_kernel
from workflow_engine.definitions import define_workflow
from workflow_engine.errors import InvalidInput, WorkflowNotFound
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel, create_kernel
from workflow_engine.kernel.commands import ClaimPendingRuns, FinishStages, PauseWork, ResumeWork, StartStages
from workflow_engine.kernel.waiting import waiting_queues
from workflow_engine.models import Pause, StageRun, WorkflowRun
from workflow_engine.testing import InMemoryBlobStore, SilentTransport


@pytest.fixture(autouse=True)
def _known(known: Any) -> None:
    two = define_workflow("two", input=Number).pipe(add_stage("here")).pipe(add_stage("there", queue="slow"))
    known(chain(2), fan(2), two.build())


def test_nothing_of_a_paused_workflow_is_claimed_and_others_go_on(kernel: Kernel, host: InlineHost) -> None:
    paused, other = create_run("chain", {"value": 1}), create_run("two", {"value": 1})

    assert pause_workflow("chain", reason="a bad release", actor="ada") is True

    assert host.drain() == 2
    assert WorkflowRun.objects.get(pk=paused.pk).status == "PENDING"
    assert WorkflowRun.objects.get(pk=other.pk).status == "COMPLETED"
    assert kernel.dispatch(ClaimPendingRuns(run_id=paused.pk)).claimed == ()
    assert kernel.dispatch(ClaimPendingRuns(workflows=("chain",))).claimed == ()
    row = Pause.objects.get()
    assert (row.scope, row.name, row.reason, row.actor) == ("workflow", "chain", "a bad release", "ada")
    assert row.paused_at == kernel.ports.clock.now()
    assert resume_workflow("chain") is True
    assert host.drain() == 2


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("scope", "name"), [("workflow", "two"), ("queue", "slow")])
def test_a_worker_does_not_go_on_with_what_is_paused(
    kernel: Kernel, host: InlineHost, together: bool, scope: str, name: str
) -> None:
    create_run("two", {"value": 1})
    (first,) = kernel.dispatch(ClaimPendingRuns(starter=starter())).started
    kernel.dispatch(PauseWork(scope=scope, name=name))

    command = FinishStages(outcomes=(outcome(first),), starter=starter(), together=together)
    (finished,) = kernel.dispatch(command).finished

    assert (finished.kind, finished.next) == ("completed", ())
    second = StageRun.objects.get(stage="there")
    assert kernel.dispatch(StartStages(starter=starter())).started == ()
    assert kernel.dispatch(StartStages(starter=starter(), stage_run_ids=(second.pk,))).started == ()
    second.refresh_from_db()
    assert (second.status, second.due_at) == ("PENDING", kernel.ports.clock.now())
    kernel.dispatch(ResumeWork(scope=scope, name=name))
    assert host.drain() == 1


def test_a_first_stage_in_a_paused_queue_waits_although_its_run_began(kernel: Kernel, host: InlineHost) -> None:
    run = create_run("chain", {"value": 1})
    pause_queue("workflows")

    result = kernel.dispatch(ClaimPendingRuns(starter=starter()))

    assert (result.claimed, result.started) == ((run.pk,), ())
    assert host.drain() == 0
    resume_queue("workflows")
    assert host.drain() == 2


def test_siblings_do_not_take_the_places_of_others_in_a_paused_queue(kernel: Kernel, host: InlineHost) -> None:
    create_run("fan", {"value": 1})
    (first,) = host.take()
    (sibling,) = host.execute(first).next
    pause_queue("workflows")

    command = FinishStages(outcomes=(outcome(sibling),), starter=starter(), together=True)
    (finished,) = kernel.dispatch(command).finished

    assert finished.next == ()


def test_only_asked_queues_that_are_not_paused_are_looked_at(kernel: Kernel) -> None:
    create_run("chain", {"value": 1})
    kernel.dispatch(ClaimPendingRuns())
    assert waiting_queues(kernel.ports) == waiting_queues(kernel.ports, ["workflows", "slow"]) == ["workflows"]

    pause_queue("workflows")

    assert waiting_queues(kernel.ports) == waiting_queues(kernel.ports, ["workflows", "slow"]) == []


def test_pausing_and_resuming_twice_changes_nothing(kernel: Kernel) -> None:
    assert [pause_queue("any"), pause_queue("any", reason="again"), resume_queue("any"), resume_queue("any")] == [
        True,
        False,
        True,
        False,
    ]
    assert not Pause.objects.exists()


def test_a_workflow_that_nobody_knows_is_an_error_unless_it_is_paused(known: Any, kernel: Kernel) -> None:
    with pytest.raises(WorkflowNotFound):
        pause_workflow("unknown")
    with pytest.raises(WorkflowNotFound):
        resume_workflow("unknown")
    Pause.objects.create(scope="workflow", name="retired", paused_at=kernel.ports.clock.now())

    assert resume_workflow("retired") is True


@pytest.mark.parametrize(
    ("scope", "name"), [("run", "x"), ("queue", ""), ("queue", "q" * 101), ("queue", "a\x00b"), ("queue", "\ud800")]
)
def test_what_can_be_no_workflow_and_no_queue_is_refused(kernel: Kernel, scope: str, name: str) -> None:
    for command in (PauseWork(scope=scope, name=name), ResumeWork(scope=scope, name=name)):
        with pytest.raises(InvalidInput):
            kernel.dispatch(command)  # type: ignore[arg-type]


@pytest.mark.django_db(transaction=True)
def test_resuming_rings_the_queues_in_which_something_waits(kernel: Kernel) -> None:
    create_run("chain", {"value": 1})
    create_run("two", {"value": 1})
    pause_workflow("two")
    pause_queue("slow")
    assert isinstance(kernel.ports.transport, SilentTransport)
    kernel.ports.transport.pushed.clear()

    resume_workflow("two")
    resume_queue("slow")

    assert pushed(kernel) == ["workflows", "slow"]


def a_kernel() -> Kernel:
    """Return a kernel with the real clock, as another process would have one."""
    real = get_kernel().ports
    return create_kernel(using=real.using, clock=real.clock, transport=SilentTransport(), blobs=InMemoryBlobStore())


@pytest.mark.django_db(transaction=True)
def test_the_process_that_pauses_knows_at_once_and_asks_no_more_than_once_a_second() -> None:
    kernel = a_kernel()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(50):
            kernel.ports.pauses()
    assert len(captured) <= 2

    kernel.dispatch(PauseWork(scope="queue", name="workflows"))
    assert kernel.ports.pauses().queues == {"workflows"}
    kernel.dispatch(ResumeWork(scope="queue", name="workflows"))

    assert kernel.ports.pauses().queues == set()


@pytest.mark.django_db(transaction=True)
def test_a_pause_that_is_rolled_back_is_none() -> None:
    kernel = a_kernel()

    with transaction.atomic():
        kernel.dispatch(PauseWork(scope="workflow", name="chain"))
        transaction.set_rollback(True)

    assert not kernel.ports.pauses()


@pytest.mark.django_db(transaction=True)
def test_a_reading_that_was_under_way_when_a_pause_was_made_is_not_kept() -> None:
    kernel = a_kernel()

    def meanwhile(execute: Any, sql: str, *arguments: Any) -> Any:
        found = execute(sql, *arguments)
        kernel.ports.pause_cache.forget()
        return found

    with connection.execute_wrapper(meanwhile):
        assert not kernel.ports.pauses()
    Pause.objects.create(scope="queue", name="workflows", paused_at=kernel.ports.clock.now())

    assert kernel.ports.pauses().queues == {"workflows"}


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_the_pause_counts_once_it_is_committed() -> None:
    kernel = a_kernel()
    with use_kernel(kernel), transaction.atomic():
        assert pause_queue("workflows", actor="ada") is True

    assert kernel.ports.pauses().hold("any", "workflows")
    assert Pause.objects.get().paused_at is not None


def test_a_deadline_of_no_run_is_moved_by_a_pause(kernel: Kernel, known: Any) -> None:
    timed = define_workflow("timed", input=Number, timeout=timedelta(minutes=1)).pipe(add_stage("one")).build()
    run = create_run(known(timed), {"value": 1})
    kernel.dispatch(ClaimPendingRuns(run_id=run.pk))
    before = WorkflowRun.objects.get(pk=run.pk).deadline_at

    pause_workflow(timed)
    resume_workflow(timed)

    assert WorkflowRun.objects.get(pk=run.pk).deadline_at == before == kernel.ports.clock.now() + timedelta(minutes=1)


def test_workers_still_advertise_what_is_paused(kernel: Kernel) -> None:
    pause_workflow("chain")

    assert "chain" in kernel.ports.known_workflows()
    assert kernel.ports.takable_workflows() == ["fan", "two"]
