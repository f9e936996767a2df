"""Runs whose plan the code can no longer follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks

from tests.janitors import begin, set_stages
from tests.management.calling import call
from tests.workflows import Number, add_stage, chain
from workflow_engine import create_run
from workflow_engine.definitions import Stage, StageContext, Workflow, define_workflow, registry, stage
from workflow_engine.definitions.waits import Completion, Wait
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.drift import Drift, Missing, find_drift
from workflow_engine.models import WorkflowRun
from workflow_engine.testing import FakeClock

Know = Callable[..., Any]
NEW = define_workflow("chain", input=Number).pipe(add_stage("add-1")).build()


@pytest.fixture
def deploy(known: Know) -> Know:
    """Return a function that replaces all registered workflows by others."""

    def replace(*workflows: Workflow[Any, Any]) -> None:
        with_before = registry._workflows
        with_before.clear()
        known(*workflows) if workflows else None

    return replace


def only(drift: list[Drift]) -> Drift:
    (item,) = drift
    return item


def test_runs_of_known_plans_are_no_drift(kernel: Kernel, known: Know) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})
    begin(kernel, create_run("chain", {"value": 1}))

    assert find_drift(kernel.ports) == []


def test_a_stage_that_is_gone_is_drift_for_the_runs_that_still_need_it(
    kernel: Kernel, host: InlineHost, known: Know, deploy: Know
) -> None:
    known(chain(2))
    done = create_run("chain", {"value": 1})
    host.drain(done.pk)
    waiting, begun = create_run("chain", {"value": 1}), create_run("chain", {"value": 1})
    begin(kernel, begun)

    deploy(NEW)

    item = only(find_drift(kernel.ports))
    assert (item.workflow, item.version, item.runs) == ("chain", "1", 2)
    assert item.missing == (Missing("stage", "add-2"),)
    assert item.run_ids == (waiting.pk, begun.pk)
    assert ".retired(" in item.fixes[0]


def test_a_stage_that_is_done_is_not_needed_any_more(
    kernel: Kernel, clock: FakeClock, known: Know, deploy: Know
) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    begin(kernel, run)
    set_stages(run, "COMPLETED", finished_at=clock.now())

    deploy(define_workflow("chain", input=Number).pipe(add_stage("add-2")).build())

    assert find_drift(kernel.ports) == []


def test_a_retired_stage_is_no_drift(kernel: Kernel, known: Know, deploy: Know) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})

    deploy(define_workflow("chain", input=Number).pipe(add_stage("add-1")).retired(add_stage("add-2")).build())

    assert find_drift(kernel.ports) == []


def test_a_workflow_that_is_gone_is_drift(kernel: Kernel, known: Know, deploy: Know) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})

    deploy()

    assert only(find_drift(kernel.ports)).missing == (Missing("workflow"),)


def asking(*waits: Wait[Any]) -> Workflow[Any, Any]:
    @stage("ask", waits=waits)
    def ask(ctx: StageContext[Number]) -> Number:
        return ctx.input

    return define_workflow("asking", input=Number).pipe(ask).build()


def test_a_wait_that_is_gone_is_drift(kernel: Kernel, known: Know, deploy: Know) -> None:
    known(asking(Wait("manager", bool), Wait("lawyer", bool)))
    create_run("asking", {"value": 1})

    deploy(asking(Wait("lawyer", bool)))

    item = only(find_drift(kernel.ports))
    assert item.missing == (Missing("wait", "ask", "manager"),)
    assert "Wait('manager'" in item.fixes[0]


def batch(*, checked: bool) -> Workflow[Any, Any]:
    submit: Stage[Number, Any, Number] = add_stage("submit")
    if checked:

        @submit.check_completion
        def check(ctx: StageContext[Number], state: Any) -> Completion[Number]:
            return Completion.pending()

    return define_workflow("batch", input=Number).pipe(submit).build()


def test_a_suspended_stage_whose_check_is_gone_is_drift_and_one_that_is_not_suspended_is_none(
    kernel: Kernel, clock: FakeClock, known: Know, deploy: Know
) -> None:
    known(batch(checked=True))
    suspended, pending = create_run("batch", {"value": 1}), create_run("batch", {"value": 1})
    for run in (suspended, pending):
        begin(kernel, run)
    set_stages(suspended, "SUSPENDED", wait_kind="poll", suspended_at=clock.now(), wake_at=clock.now())
    assert find_drift(kernel.ports) == []

    deploy(batch(checked=False))

    item = only(find_drift(kernel.ports))
    assert (item.missing, item.run_ids) == ((Missing("check", "submit"),), (suspended.pk,))


def test_plans_are_told_apart_and_ids_are_few(kernel: Kernel, known: Know, deploy: Know) -> None:
    known(chain(3))
    for _ in range(7):
        create_run("chain", {"value": 1})
    deploy(chain(2))
    create_run("chain", {"value": 1})

    deploy(NEW)

    two, three = sorted(find_drift(kernel.ports), key=lambda item: item.runs)
    assert (two.runs, [item.stage for item in two.missing]) == (1, ["add-2"])
    assert (three.runs, [item.stage for item in three.missing], len(three.run_ids)) == (7, ["add-2", "add-3"], 5)


def test_one_statement_and_one_for_checks_say_that_all_is_well(
    kernel: Kernel, known: Know, django_assert_num_queries: Any
) -> None:
    known(chain(2))
    for _ in range(3):
        create_run("chain", {"value": 1})

    with django_assert_num_queries(2):
        find_drift(kernel.ports)


def test_the_command_exits_with_0_and_says_that_all_is_well(kernel: Kernel, known: Know) -> None:
    called = call("wfe_check_plans")

    assert (called.code, called.lines) == (0, ["The code can follow the plan of every live run."])
    assert call("wfe_check_plans", "--json").json == {"drift": []}


def test_the_command_exits_with_1_and_says_what_would_help(kernel: Kernel, known: Know, deploy: Know) -> None:
    known(chain(2))
    run = create_run("chain", {"value": 1})
    deploy(NEW)

    called, as_json = call("wfe_check_plans"), call("wfe_check_plans", "--json")

    assert (called.code, as_json.code) == (1, 1)
    assert called.lines == [
        "1 live run of workflow 'chain' version 1 need what the code lacks: stage 'add-2'.",
        "  Keep the code of 'add-2' and add .retired(it) to the workflow, or cancel the runs.",
        f"  runs: {run.pk}",
    ]
    (item,) = as_json.json["drift"]
    assert (item["workflow_id"], item["runs"], item["run_ids"]) == ("chain", 1, [str(run.pk)])
    assert item["missing"][0]["kind"] == "stage"


def test_the_system_check_warns_where_a_database_is_named_and_nowhere_else(
    kernel: Kernel, known: Know, deploy: Know
) -> None:
    known(chain(2))
    create_run("chain", {"value": 1})
    assert [item for item in run_checks(databases=["default"]) if item.id == "workflow_engine.W004"] == []
    deploy(NEW)

    (found,) = [item for item in run_checks(databases=["default"]) if item.id == "workflow_engine.W004"]

    assert "stage 'add-2'" in found.msg
    assert found.hint and ".retired(" in found.hint
    assert [item for item in run_checks() if item.id == "workflow_engine.W004"] == []
    assert WorkflowRun.objects.count() == 1
