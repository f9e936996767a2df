"""What the doctor finds about maps and child runs, and that it finds nothing where all is well."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.families import Family
from tests.maps import Importer
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import WakeSuspendedStages
from workflow_engine.kernel.doctor import examine
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import RunNotice, StageMap, StageRun, WorkflowRun
from workflow_engine.testing import FakeClock

pytestmark = pytest.mark.django_db


@pytest.fixture
def importer(known: Any) -> Importer:
    made = Importer(max_parallel=3)
    known(made.workflow, *Family().workflows)
    return made


def half_way(host: InlineHost) -> WorkflowRun:
    """Return a run of which some items are done."""
    run = create_run("importer", 8)
    pending: list[StartedStage] = []
    while not StageMap.objects.filter(done__gte=2).exists():
        pending = pending or host.take()
        pending += host.execute(pending.pop(0)).next
    return run


def codes(kernel: Kernel) -> list[str]:
    return [finding.code for finding in examine(kernel.ports).findings]


def test_maps_and_children_that_go_on_or_have_ended_are_healthy(
    importer: Importer, host: InlineHost, kernel: Kernel
) -> None:
    half_way(host)
    waiting = create_run("parents", [1, 2, 3])
    assert codes(kernel) == []

    host.drain()

    assert WorkflowRun.objects.get(pk=waiting.pk).status == "COMPLETED"
    assert codes(kernel) == []


@pytest.mark.parametrize("column", ["failed", "cancelled", "opened"])
def test_a_map_that_counts_wrongly_is_found_and_mended(
    importer: Importer, host: InlineHost, kernel: Kernel, clock: FakeClock, column: str
) -> None:
    run = half_way(host)
    wrong = {column: getattr(StageMap.objects.get(), column) + 1}
    StageMap.objects.update(**wrong)
    assert codes(kernel) == ["map.miscounted"]

    clock.advance(timedelta(minutes=1))
    kernel.dispatch(WakeSuspendedStages())

    assert codes(kernel) == []
    host.drain()
    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"


def test_a_map_whose_last_item_was_not_counted_comes_to_its_end(
    importer: Importer, host: InlineHost, kernel: Kernel, clock: FakeClock
) -> None:
    run = half_way(host)
    StageMap.objects.update(done=0, opened=8, next_index=8)
    open_items = StageRun.objects.filter(run=run, map_index__gte=0, status="PENDING")
    open_items.update(status="COMPLETED", finished_at=clock.now(), output={"json": "1"})

    clock.advance(timedelta(minutes=1))
    kernel.dispatch(WakeSuspendedStages())
    host.drain()

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"


def test_an_item_that_was_left_open_is_found(importer: Importer, host: InlineHost, kernel: Kernel) -> None:
    create_run("importer", 3)
    host.drain()
    StageRun.objects.filter(map_index=1).update(status="PENDING", finished_at=None)

    assert "map.item_left" in codes(kernel)


def test_what_was_not_told_is_found_after_a_while(
    importer: Importer, host: InlineHost, kernel: Kernel, clock: FakeClock
) -> None:
    run = create_run("parent", 1)
    (started,) = host.take()
    host.execute(started)
    child = WorkflowRun.objects.get(parent_run=run)
    RunNotice.objects.create(run_id=run.pk, sender=child.pk, kind="child_ended", due_at=clock.now())
    assert codes(kernel) == []

    clock.advance(timedelta(minutes=12))
    assert set(codes(kernel)) == {"notice.undelivered", "wait.overslept", "run.not_claimed"}
    child.delete()

    assert {"notice.undelivered", "child.unheard"} <= set(codes(kernel))
