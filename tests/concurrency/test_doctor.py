"""The doctor beside a system at work says nothing: what it reads in several statements may have moved in between."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.threads import together
from tests.janitors import worker
from tests.workflows import fan
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Beat, ClaimPendingRuns, FinishStages, Outcome, StartStages
from workflow_engine.kernel.doctor import Finding, examine
from workflow_engine.models import WorkflowRun
from workflow_engine.models.payloads import inline

pytestmark = pytest.mark.django_db(transaction=True)


def test_runs_that_go_on_while_the_doctor_looks_are_healthy(known: Any) -> None:
    known(fan(3))
    kernel, ended = get_kernel(), threading.Event()
    for _ in range(60):
        create_run("fan", {"value": 1})

    def work() -> None:
        facts = worker({"fan": ["first", "add-1", "add-2", "add-3", "total"]})
        kernel.dispatch(Beat(worker=facts, running={}))
        starter = Starter(worker_id=facts.id, slots=2)
        while WorkflowRun.objects.filter(status__in=["PENDING", "RUNNING"]).exists():
            stages = list(kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=starter)).started)
            stages += kernel.dispatch(StartStages(starter=starter)).started
            for stage in stages:
                outcome = Outcome(stage, Completed(inline({"value": 1})), timedelta(0))
                kernel.dispatch(FinishStages(outcomes=(outcome,)))
        ended.set()

    def look() -> list[Finding]:
        found: list[Finding] = []
        while not ended.is_set():
            found += examine(kernel.ports).findings
        return found

    *_, found = together([work, work, look])

    assert found == []
