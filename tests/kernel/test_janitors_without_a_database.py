"""A database that is away is nothing that a single row could help: janitors stop there, and log no error per row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.janitors import begin, pass_time, set_stages, worker
from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.errors import DatabaseUnavailable
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    ClaimPendingRuns,
    ExpireRuns,
    ReapStaleLeases,
    ReapStuckRuns,
    ReapUnknown,
    expire_runs,
    reap_stale_leases,
    reap_stuck_runs,
    reap_unknown,
)
from workflow_engine.models import WorkflowRun
from workflow_engine.testing import FakeClock

OTHER = worker({"other": ["x"]})


def lost_stages(kernel: Kernel, clock: FakeClock) -> None:
    kernel.dispatch(ClaimPendingRuns(starter=Starter(worker_id=OTHER.id, slots=8, alone=False)))


def late_runs(kernel: Kernel, clock: FakeClock) -> None:
    WorkflowRun.objects.update(status="RUNNING", started_at=clock.now(), deadline_at=clock.now())


def stuck_runs(kernel: Kernel, clock: FakeClock) -> None:
    for run in WorkflowRun.objects.all():
        begin(kernel, run)
        set_stages(run, "COMPLETED", finished_at=clock.now())


def unknown_runs(kernel: Kernel, clock: FakeClock) -> None:
    pass_time(kernel, clock, timedelta(0), OTHER)


@pytest.mark.parametrize(
    ("prepare", "module", "command"),
    [
        (lost_stages, reap_stale_leases, ReapStaleLeases()),
        (late_runs, expire_runs, ExpireRuns()),
        (stuck_runs, reap_stuck_runs, ReapStuckRuns()),
        (unknown_runs, reap_unknown, ReapUnknown()),
    ],
)
def test_a_janitor_stops_at_the_first_row_and_leaves_the_word_to_its_caller(
    known: Any,
    kernel: Kernel,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[Kernel, FakeClock], None],
    module: Any,
    command: Any,
) -> None:
    known(chain(2))
    for _ in range(2):
        create_run("chain", {"value": 1})
    prepare(kernel, clock)
    tried: list[object] = []

    def away(ports: object, causation_id: object, step: object) -> None:
        tried.append(step)
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr(module, "transact", away)

    with caplog.at_level(logging.WARNING), pytest.raises(DatabaseUnavailable):
        kernel.dispatch(command)

    assert (len(tried), caplog.records) == (1, [])
