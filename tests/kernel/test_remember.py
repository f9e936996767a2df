from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.workflows import chain
from workflow_engine import cancel_run, create_run
from workflow_engine.errors import StaleLease
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, Remember
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import OutboxEvent, StageMemo, WorkflowRun
from workflow_engine.models.payloads import inline


@pytest.fixture
def started(known: Any, kernel: Kernel) -> StartedStage:
    known(chain(1))
    create_run("chain", {"value": 1})
    starter = Starter(worker_id=uuid.uuid4(), slots=1)
    return kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=starter)).started[0]


def test_the_first_value_of_a_name_counts(kernel: Kernel, started: StartedStage) -> None:
    first = kernel.dispatch(Remember(stage=started, name="charge", value=inline(1)))
    second = kernel.dispatch(Remember(stage=started, name="charge", value=inline(2)))

    assert (first.stored, second.stored) == (True, False)
    assert first.memo.get_value() == second.memo.get_value() == 1
    memo = StageMemo.objects.get()
    assert (memo.run_id, memo.stage_run_id, memo.kind, memo.token) == (
        started.run_id,
        started.stage_run_id,
        "once",
        started.token,
    )


def test_an_attempt_that_is_not_held_any_more_stores_nothing(kernel: Kernel, started: StartedStage) -> None:
    cancel_run(started.run_id)

    with pytest.raises(StaleLease, match="attempt 1 is not held any more"):
        kernel.dispatch(Remember(stage=started, name="charge", value=inline(1)))

    assert not StageMemo.objects.exists()


def test_it_changes_no_state_so_the_run_is_neither_locked_nor_told(kernel: Kernel, started: StartedStage) -> None:
    events = OutboxEvent.objects.count()

    with CaptureQueriesContext(
        connection,
    ) as queries:
        kernel.dispatch(Remember(stage=started, name="charge", value=inline(1)))

    table = WorkflowRun._meta.db_table
    assert not [query["sql"] for query in queries if f'"{table}"' in query["sql"] or f"`{table}`" in query["sql"]]
    assert OutboxEvent.objects.count() == events
