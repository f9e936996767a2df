"""Runs that start runs, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.api.conftest import JSONClient, problem_of
from tests.families import Family
from tests.part_way import one_step
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import WorkflowRun

Know = Callable[..., Any]


def test_parent_and_child_know_each_other(api: JSONClient, known: Know, host: InlineHost) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    one_step(host)
    child = WorkflowRun.objects.get(parent_run=run)

    up, down = (api.read(f"runs/{one.pk}/").json() for one in (run, child))

    lineage = ("parent_run_id", "parent_stage_run_id", "root_run_id", "depth")
    assert [up[name] for name in lineage] == [None, None, None, 0]
    assert [down[name] for name in lineage] == [str(run.pk), str(child.parent_stage_run_id), str(run.pk), 1]
    known_child = {"run_id": str(child.pk), "workflow_id": "child", "status": "PENDING"}
    assert up["stages"][0]["suspended"]["child_run"] == known_child
    assert f"waits for its child run {child.pk} of workflow child, which is PENDING" in up["waiting"]


def test_runs_are_listed_by_the_run_that_has_started_them(api: JSONClient, known: Know, host: InlineHost) -> None:
    family = Family()
    family.bad = {2}
    known(*family.workflows)
    runs = [create_run("parents", [1, 2]), create_run("parents", [3])]
    host.drain()

    found = [api.read("runs/", {"parent_run": str(run.pk)}).json()["results"] for run in runs]
    failed = api.read("runs/", {"parent_run": str(runs[0].pk), "status": "FAILED"}).json()["results"]

    assert [len(one) for one in found] == [2, 1]
    assert {one["parent_run_id"] for one in found[0]} == {str(runs[0].pk)}
    assert len(failed) == 1


def test_a_parent_that_is_no_id_is_refused(api: JSONClient) -> None:
    assert problem_of(api.read("runs/", {"parent_run": "nobody"}))["detail"] == "parent_run must be the id of a run."
