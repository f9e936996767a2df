"""What is put off rings for a worker if it is due soon: where Redis is, nobody waits for a tick."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.hosts.working import working
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import create_run, schedule
from workflow_engine.bootstrap import get_kernel
from workflow_engine.kernel.commands import CancelRun
from workflow_engine.models import ScheduledCommand, WorkerHeartbeat

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("seconds", [0, 2])
def test_a_worker_that_rests_carries_a_command_out_at_its_time(
    server: Any, settings: Any, known: Callable[..., Any], seconds: int
) -> None:
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq", "TICK_SECONDS": 3600}
    run = create_run(known(chain(1)), {"value": 1}, run_at=timezone.now() + timedelta(days=1))

    with working(threads=1):
        until(WorkerHeartbeat.objects.exists, "the worker has started")
        until(lambda: not get_kernel().ports.transport.polls, "it listens", 30)
        row = schedule(CancelRun(run_id=run.pk), run_at=timezone.now() + timedelta(seconds=seconds))
        until(ScheduledCommand.objects.filter(status="FIRED").exists, "it is carried out although no tick comes", 30)

    row.refresh_from_db()
    assert row.finished_at is not None
    assert 0 <= (row.finished_at - row.run_at).total_seconds() < 1
