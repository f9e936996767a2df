"""What a run costs in statements and commits, counted at the connection."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.bootstrap import get_kernel
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands import ClaimPendingRuns
from workflow_engine.models import StageRun, WorkflowRun

pytestmark = pytest.mark.django_db(transaction=True)


def count(captured: CaptureQueriesContext) -> Counter[str]:
    """Sort what was sent: ``commits``, ``begins``, ``savepoints`` and ``statements``, which are the rest."""
    found: Counter[str] = Counter()
    for query in captured.captured_queries:
        word = query["sql"].split(None, 1)[0].rstrip(";").upper()
        names = {"COMMIT": "commits", "BEGIN": "begins", "SAVEPOINT": "savepoints", "RELEASE": "savepoints"}
        found[names.get(word, "statements")] += 1
        # A statement outside of BEGIN and COMMIT is a transaction by itself.
        found["commits"] += word == "WITH" and found["begins"] == found["commits_of_begins"]
        found["commits_of_begins"] += word == "COMMIT"
    return found


def test_a_run_of_five_groups_costs_n_plus_two_commits_and_few_statements(
    known: Any, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    stages = 5
    known(chain(stages))
    host = InlineHost(get_kernel())
    create_run("chain", {"value": 1})
    host.drain()

    with CaptureQueriesContext(connection) as creating:
        run = create_run("chain", {"value": 1})
    # Read at most once a second, whatever runs; here just now, so that it cannot fall into what is counted.
    get_kernel().ports.pause_cache.forget()
    get_kernel().ports.pauses()

    with CaptureQueriesContext(connection) as working:
        started = host.kernel.dispatch(ClaimPendingRuns(max_claims=1, starter=host._starter())).started
        while started:
            started = host.execute(started[0]).next

    assert WorkflowRun.objects.get(pk=run.pk).status == "COMPLETED"
    assert StageRun.objects.filter(run=run, status="COMPLETED").count() == stages
    created, worked = count(creating), count(working)
    per_stage = (created["statements"] + worked["statements"]) / stages
    with capsys.disabled():
        facts = {"backend": backend, "create": dict(created), "run": dict(worked), "statements_per_stage": per_stage}
        sys.stdout.write(f"\ncosts of a run of {stages}: {json.dumps(facts)}\n")
    assert created["commits"] + worked["commits"] == stages + 2
    assert created["statements"] <= 4
    # Where all rows cannot go in one statement, there is one per table.
    assert per_stage <= (5 if backend == "postgresql" else 8)
