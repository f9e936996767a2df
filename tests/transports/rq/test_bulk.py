"""A bulk operation rings for an orchestrator: where Redis is, nobody waits for a tick."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.bulk.operations import figures, make_runs
from tests.hosts.working import working
from tests.waiting import until
from tests.workflows import chain
from workflow_engine import cancel_runs
from workflow_engine.bootstrap import get_kernel
from workflow_engine.models import BulkOperation, WorkerHeartbeat

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


def test_a_worker_that_rests_carries_a_bulk_operation_out_at_once(
    server: Any, settings: Any, known: Callable[..., Any]
) -> None:
    settings.WORKFLOW_ENGINE = {"TRANSPORT": "rq", "TICK_SECONDS": 3600}
    known(chain(1))
    runs = make_runs(60, run_at=timezone.now() + timedelta(days=1))

    with working(threads=1):
        until(WorkerHeartbeat.objects.exists, "the worker has started")
        until(lambda: not get_kernel().ports.transport.polls, "it listens", 30)
        operation = cancel_runs(runs)
        until(lambda: not BulkOperation.objects.open().exists(), "it is carried out although no tick comes", 30)

    assert figures(operation) == ("COMPLETED", 60, 60, 0, 0)
