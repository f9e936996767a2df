"""A process dies by SIGKILL while it deletes what is old; the next pass goes on, and nothing half-deleted is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import override_settings

from tests.families import Family
from tests.faults.processes import start
from tests.invariants import check_all
from workflow_engine import rerun_from, run_and_wait
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.registry import register, registry_override
from workflow_engine.hosts.jobs import process_available_jobs
from workflow_engine.kernel import points
from workflow_engine.kernel.commands import Prune
from workflow_engine.kernel.doctor import examine
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.base import read_clock
from workflow_engine.testing import FakeClock, create_test_kernel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
PRUNE_POINTS = (points.PRUNE_IN_TX, points.PRUNE_AFTER)
CHILDREN = 6
# By how often which point is passed: so many runs of the pages of two are gone by then.
GONE = {
    (points.PRUNE_IN_TX, 1): 0,
    (points.PRUNE_IN_TX, 3): 2,
    (points.PRUNE_AFTER, 1): 2,
    (points.PRUNE_AFTER, 3): 4,
}
LATER = datetime(9000, 1, 1, tzinfo=UTC)


@pytest.fixture
def family() -> Iterator[WorkflowRun]:
    """A run that has ended, with children whose inputs are blobs."""
    with registry_override(), override_settings(WORKFLOW_ENGINE={"INLINE_PAYLOAD_BYTES": 0}):
        for workflow in Family().workflows:
            register(workflow)
        run_and_wait("parents", list(range(CHILDREN)), timeout=60)
        yield WorkflowRun.objects.get(parent_run=None)


def prune(*options: str, crash_at: str = "") -> int:
    connection.close()
    return start("wfe_prune", "--skip-checks", "--older-than", "0s", *options, crash_at=crash_at).wait()


@pytest.mark.parametrize(("point", "hit"), list(GONE))
def test_after_a_death_the_next_pass_goes_on(family: WorkflowRun, point: str, hit: int) -> None:
    assert prune("--what", "runs", "--batch", "2", crash_at=f"{point}:{hit}") == -signal.SIGKILL

    left = set(WorkflowRun.objects.values_list("pk", flat=True))
    assert len(left) == CHILDREN + 1 - GONE[point, hit]
    assert set(StageRun.objects.values_list("run", flat=True)) == left
    assert [finding for finding in examine(get_kernel().ports).findings if finding.severity == "violation"] == []
    assert prune("--what", "runs", "--status", "FAILED") == 0
    check_all()
    assert prune("--what", "runs") == 0
    assert not WorkflowRun.objects.exists()


def test_a_child_whose_parent_was_deleted_by_a_process_that_died_can_be_rerun(family: WorkflowRun) -> None:
    WorkflowRun.objects.exclude(pk=family.pk).update(finished_at=LATER)
    assert prune("--what", "runs", crash_at=f"{points.PRUNE_AFTER}:1") == -signal.SIGKILL
    assert not WorkflowRun.objects.filter(pk=family.pk).exists()
    child = WorkflowRun.objects.filter(parent_run=family.pk).earliest("pk")

    rerun_from(child, "last")
    process_available_jobs()

    child.refresh_from_db()
    assert (child.status, child.parent_run_id) == ("COMPLETED", family.pk)
    assert prune("--what", "runs") == 0
    assert set(WorkflowRun.objects.values_list("parent_run", "root_run")) == {(None, None)}
    check_all()


def test_the_files_that_a_process_that_died_has_left_go_as_unreferenced_ones(family: WorkflowRun) -> None:
    family_ids = list(WorkflowRun.objects.values_list("pk", flat=True))
    assert prune("--what", "runs", "--batch", "2", crash_at=f"{points.PRUNE_AFTER}:1") == -signal.SIGKILL
    assert prune("--what", "runs") == 0
    blobs, day = get_kernel().ports.blobs, timedelta(days=1)
    ours = {str(run_id) for run_id in family_ids}
    left = ours & set(blobs.folders("runs"))
    assert len(left) == 2
    later = create_test_kernel(clock=FakeClock(read_clock("default") + 2 * day), blobs=blobs)

    # Page by page: other tests have left files too.
    page = later.dispatch(Prune(what="blobs", older_than=day))
    deleted = page.deleted
    while page.place is not None:
        page = later.dispatch(Prune(what="blobs", older_than=day, after=page.place))
        deleted += page.deleted

    assert deleted >= 2
    assert not ours & set(blobs.folders("runs"))
