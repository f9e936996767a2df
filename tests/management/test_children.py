"""What commands say of runs that start runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.families import Family
from tests.management.calling import call
from tests.part_way import one_step
from workflow_engine import create_run
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.management.command import NOT_FOUND
from workflow_engine.models import WorkflowRun

Know = Callable[..., Any]


def test_parent_and_child_tell_of_each_other(known: Know, host: InlineHost) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    one_step(host)
    child = WorkflowRun.objects.get(parent_run=run)

    parent_lines, child_lines = call("wfe_status", str(run.pk)).lines, call("wfe_status", str(child.pk)).lines

    words = f"waits for its child run {child.pk} of workflow child, which is PENDING"
    assert any(one.startswith("delegate") and one.endswith(words) for one in parent_lines)
    assert "Child runs: 1 PENDING" in parent_lines
    assert f"  {child.pk}  child     PENDING" in parent_lines
    assert f"started by  run {run.pk}, stage delegate" in child_lines


def test_programs_get_ids_depth_and_counts(known: Know, host: InlineHost) -> None:
    known(*Family().workflows)
    run = create_run("parent", 1)
    host.drain()
    child = WorkflowRun.objects.get(parent_run=run)

    up, down = (call("wfe_status", str(one.pk), "--json").json for one in (run, child))

    assert up["children"] == {
        "count": 1,
        "statuses": {"COMPLETED": 1},
        "first": [{"run_id": str(child.pk), "workflow_id": "child", "status": "COMPLETED"}],
    }
    assert (up["parent_run_id"], up["root_run_id"], up["depth"]) == (None, None, 0)
    assert (down["parent_run_id"], down["root_run_id"], down["depth"]) == (str(run.pk), str(run.pk), 1)
    assert down["children"]["count"] == 0


def test_of_many_children_the_first_are_listed_and_the_others_counted(known: Know, host: InlineHost) -> None:
    known(*Family().workflows)
    run = create_run("parents", list(range(25)))
    host.drain()

    lines = call("wfe_status", str(run.pk)).lines
    listed = call("wfe_status", "--parent", str(run.pk), "--limit", "25")

    assert "Child runs: 25 COMPLETED" in lines
    assert sum(one.startswith("  0") and "child" in one for one in lines) == 20
    assert f"  and 5 more: manage.py wfe_status --parent {run.pk} --limit 25" in lines
    assert "Runs: 25 COMPLETED" in listed.lines
    assert sum(" child " in one for one in listed.lines) == 25


def test_a_parent_that_does_not_exist_is_an_error(db: None) -> None:
    assert call("wfe_status", "--parent", "0198c5a0-0000-7000-8000-000000000000").code == NOT_FOUND
