"""A real worker process dies by SIGKILL at each crash point; another one takes over; every run ends right."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from tests.faults.callers import killed_caller
from tests.faults.matrix import all_cases
from tests.faults.processes import stop, worker_process
from tests.faults.takeover import all_ended, end_leases, killed, shorten_waits, take_over
from tests.faults.test_crash_matrix_of_bulk import BULK_POINTS
from tests.faults.test_crash_matrix_of_events import EVENT_POINTS
from tests.faults.test_crash_matrix_of_limits import LIMIT_POINTS
from tests.faults.test_crash_matrix_of_pruning import PRUNE_POINTS
from tests.faults.test_crash_matrix_of_schedules import SCHEDULE_POINTS
from tests.faults.test_crash_matrix_of_waits import ANSWER_POINTS
from tests.faults.test_crash_matrix_of_webhooks import WEBHOOK_POINTS
from tests.faults.workflows import crashing, expected
from tests.invariants import check_all
from tests.waiting import until
from workflow_engine import cancel_run, create_run, pause_queue, pause_run, rerun_from, resume_queue, resume_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import registry_override
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import ClaimPendingRuns, ExpireRuns
from workflow_engine.models import Pause, StageAttempt, StageRun, WorkflowLog, WorkflowRun

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.mark.parametrize("point", [points.REAP_IN_TX, points.REAP_AFTER])
def test_a_reaper_that_dies_is_replaced_by_the_next(point: str) -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")

    killed(f"{points.EXEC_MID}:1")
    killed(f"{point}:1")
    take_over(all_ended)

    check_all()
    run.refresh_from_db()
    assert run.get_output() == expected("input")


def test_a_worker_that_dies_while_it_gives_stages_back_loses_nothing() -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")
    with worker_process(f"{points.EXEC_MID}:1:sleep=60,{points.RELEASE_IN_TX}:1", "--grace", "0") as draining:
        until(lambda: StageRun.objects.filter(status="RUNNING").exists(), "a stage runs")
        draining.send_signal(signal.SIGTERM)
        until(lambda: draining.poll() is not None, "the worker dies in its release")
        assert draining.poll() == -signal.SIGKILL
    end_leases()
    take_over(all_ended)

    check_all()
    assert WorkflowRun.objects.get(pk=run.pk).get_output() == expected("input")


def test_a_zombie_that_wakes_after_its_lease_writes_nothing() -> None:
    with registry_override(crashing):
        create_run(crashing, "input")
    with worker_process(f"{points.COMPLETE_BEFORE}:1:sleep=5", "--no-orchestrator") as zombie:
        until(lambda: StageRun.objects.filter(progress__isnull=False).exists(), "the first stage is at its end")
        until(lambda: WorkflowLog.objects.exists(), "its lines are written")
        # Not in the middle of a write: a process that is frozen with SQLite's only write lock blocks everybody.
        with transaction.atomic():
            zombie.send_signal(signal.SIGSTOP)
        with worker_process() as healthy:
            end_leases()
            until(lambda: shorten_waits() or all_ended(), "the run ends under a healthy worker")
            before = list(StageRun.objects.order_by("pk").values())
            zombie.send_signal(signal.SIGCONT)
            stop(zombie)
            stop(healthy)

    assert list(StageRun.objects.order_by("pk").values()) == before
    check_all()
    assert StageAttempt.objects.filter(outcome="lost").count() == 1


def test_a_creator_that_dies_before_its_commit_leaves_nothing_and_after_it_a_run() -> None:
    with registry_override(crashing):
        for point, runs in ((points.CREATE_IN_TX, 0), (points.CREATE_AFTER, 1)):
            killed_caller(point, lambda: create_run(crashing, "input", idempotency_key=point))  # noqa: B023
            assert WorkflowRun.objects.count() == runs

        again = create_run(crashing, "input", idempotency_key=points.CREATE_AFTER)

    assert (again.was_created, WorkflowRun.objects.count()) == (False, 1)
    check_all()


def test_a_cancel_that_dies_in_its_transaction_has_not_happened() -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")
        killed_caller(points.CANCEL_IN_TX, lambda: cancel_run(run))

    run.refresh_from_db()
    assert run.status == "PENDING"
    assert get_kernel().ports.transport.epoch() == "database"
    check_all()


def test_a_rerun_that_dies_before_its_commit_has_not_happened_and_after_it_has() -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")
        cancel_run(run)
        for point, generation in ((points.RERUN_IN_TX, 0), (points.RERUN_AFTER, 1)):
            killed_caller(point, lambda: rerun_from(run, crashing.stage_ids[0], idempotency_key="again"))
            run.refresh_from_db()
            assert run.generation == generation
            check_all()

        assert rerun_from(run, crashing.stage_ids[0], idempotency_key="again").generation == 1


@pytest.mark.parametrize("change", [pause_run, resume_run])
def test_a_pause_that_dies_in_its_transaction_has_not_happened(change: Callable[..., bool]) -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")
        if change is resume_run:
            pause_run(run)
        killed_caller(points.PAUSE_IN_TX, lambda: change(run))

    run.refresh_from_db()
    assert (run.paused_at is None) == (change is pause_run)
    check_all()


@pytest.mark.usefixtures("unpaused")
def test_a_pause_of_a_queue_that_dies_in_its_transaction_has_not_happened() -> None:
    killed_caller(points.PAUSE_IN_TX, lambda: pause_queue("mail"))
    assert not Pause.objects.exists()

    pause_queue("mail")
    killed_caller(points.PAUSE_IN_TX, lambda: resume_queue("mail"))

    assert Pause.objects.get().name == "mail"
    assert get_kernel().ports.pauses().queues == {"mail"}


def test_whoever_dies_while_a_run_is_failed_by_its_deadline_leaves_it_to_the_next() -> None:
    with registry_override(crashing):
        run = create_run(crashing, "input")
        get_kernel().dispatch(ClaimPendingRuns())
        WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
        killed_caller(points.EXPIRE_IN_TX, lambda: get_kernel().dispatch(ExpireRuns()))
        run.refresh_from_db()
        assert run.status == "RUNNING"

        assert get_kernel().dispatch(ExpireRuns()).expired == (run.pk,)

    check_all()


def test_every_crash_point_is_in_the_matrix() -> None:
    covered = {
        *(case.point for case in all_cases()),
        points.REAP_IN_TX,
        points.REAP_AFTER,
        points.CREATE_IN_TX,
        points.CREATE_AFTER,
        points.CANCEL_IN_TX,
        points.PAUSE_IN_TX,
        points.EXPIRE_IN_TX,
        points.RELEASE_IN_TX,
        *ANSWER_POINTS,
        *LIMIT_POINTS,
        points.RERUN_IN_TX,
        points.RERUN_AFTER,
        *BULK_POINTS,
        *PRUNE_POINTS,
        *EVENT_POINTS,
        *SCHEDULE_POINTS,
        *WEBHOOK_POINTS,
    }

    assert covered == set(points.POINTS)
