"""Reruns of mapped stages: as a whole, or only of the items that have not succeeded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.invariants import check_all
from tests.maps import Importer, Summary
from workflow_engine import create_run, plan_rerun, rerun_from
from workflow_engine.errors import IdempotencyConflict, InvalidTransition
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, StageMap, StageRun, WorkflowRun

pytestmark = pytest.mark.django_db


@pytest.fixture
def importer(known: Any) -> Importer:
    made = Importer(max_parallel=4)
    made.bad = {2, 5}
    known(made.workflow)
    return made


def failed_run(host: InlineHost, items: int = 8) -> WorkflowRun:
    run = create_run("importer", items)
    host.drain()
    run.refresh_from_db()
    assert run.status == "FAILED"
    return run


def current(run: WorkflowRun) -> dict[int, tuple[str, int]]:
    rows = run.stage_runs.filter(stage="import-line", superseded_at__isnull=True, map_index__gte=0)
    return {row.map_index: (row.status, row.generation) for row in rows}


def test_only_the_items_that_have_not_succeeded_run_again(importer: Importer, host: InlineHost) -> None:
    run = failed_run(host)
    done = {index for index, (status, _) in current(run).items() if status == "COMPLETED"}
    importer.bad.clear()

    rerun_from(run, "import-line", only_failed_items=True)
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.generation, importer.expanded) == ("COMPLETED", 1, 1)
    assert Summary.model_validate(run.get_output()).outputs == [index * 10 for index in range(8)]
    assert {index for index, (_, generation) in current(run).items() if generation == 0} == done
    assert all(importer.entered[index] == 1 for index in done)
    told = OutboxEvent.objects.get(run=run, type="run.rerun").payload
    assert told["items"] == 8 - len(done)
    check_all()


def test_items_may_be_rerun_again_and_again(importer: Importer, host: InlineHost) -> None:
    run = failed_run(host)
    importer.bad = {5}
    rerun_from(run, "import-line", only_failed_items=True)
    host.drain()
    run.refresh_from_db()
    assert (run.status, run.generation) == ("FAILED", 1)

    importer.bad.clear()
    rerun_from(run, "import-line", only_failed_items=True)
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.generation) == ("COMPLETED", 2)
    assert Summary.model_validate(run.get_output()).outputs == [index * 10 for index in range(8)]
    check_all()


def test_collected_failures_are_rerun_after_the_run_has_completed(known: Any, host: InlineHost) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {1}
    run = create_run(known(importer.workflow), 3)
    host.drain()
    run.refresh_from_db()
    assert (run.status, Summary.model_validate(run.get_output()).failed) == ("COMPLETED", [1])

    importer.bad.clear()
    rerun_from(run, "import-line", only_failed_items=True)
    host.drain()

    run.refresh_from_db()
    assert Summary.model_validate(run.get_output()) == Summary(outputs=[0, 10, 20], failed=[], shown=3, total=3)
    assert importer.entered == {0: 1, 1: 2, 2: 1}
    check_all()


def test_the_whole_map_runs_again_and_makes_its_items_anew(importer: Importer, host: InlineHost) -> None:
    run = failed_run(host)
    importer.bad.clear()

    rerun_from(run, "import-line")
    host.drain()

    run.refresh_from_db()
    assert (run.status, importer.expanded) == ("COMPLETED", 2)
    assert {generation for _, generation in current(run).values()} == {1}
    check_all()


def test_a_rerun_of_what_follows_keeps_the_items(known: Any, host: InlineHost) -> None:
    importer = Importer()
    run = create_run(known(importer.workflow), 3)
    host.drain()

    rerun_from(run, "summary")
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED"
    assert sum(importer.entered.values()) == 3
    assert Summary.model_validate(run.get_output()).outputs == [0, 10, 20]
    check_all()


def test_the_outputs_of_an_earlier_generation_stay_as_they_were(known: Any, host: InlineHost) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {1}
    run = create_run(known(importer.workflow), 2)
    host.drain()
    importer.bad.clear()
    rerun_from(run, "import-line", only_failed_items=True)
    host.drain()

    old, new = StageRun.objects.filter(run=run, stage="import-line", map_index=-1).order_by("generation")

    assert [value if isinstance(value, int) else value["code"] for value in old.get_output()] == [0, "STAGE_FAILED"]
    assert new.get_output() == [0, 10]
    assert [counts.done for counts in StageMap.objects.order_by("generation")] == [1, 2]


def test_the_preview_says_how_many_items_run_again(importer: Importer, host: InlineHost) -> None:
    run = failed_run(host)
    waiting = sum(status != "COMPLETED" for status, _ in current(run).values())

    plan = plan_rerun(run, "import-line", only_failed_items=True)

    assert (plan.only_failed_items, plan.items_again) == (True, waiting)
    assert plan.as_json()["items_again"] == waiting
    assert plan_rerun(run, "import-line").items_again is None
    run.refresh_from_db()
    assert (run.status, run.generation) == ("FAILED", 0)


@pytest.mark.parametrize(("stage", "text"), [("lines", "it has no items"), ("import-line", "none of its items")])
def test_where_no_item_has_failed_there_is_nothing_to_rerun(
    known: Any, host: InlineHost, stage: str, text: str
) -> None:
    run = create_run(known(Importer().workflow), 3)
    host.drain()

    with pytest.raises(InvalidTransition, match=text):
        rerun_from(run, stage, only_failed_items=True)

    run.refresh_from_db()
    assert (run.status, run.generation) == ("COMPLETED", 0)


def test_the_key_of_a_rerun_of_failed_items_is_not_that_of_a_whole_one(importer: Importer, host: InlineHost) -> None:
    run = failed_run(host)
    rerun_from(run, "import-line", only_failed_items=True, idempotency_key="k")

    assert rerun_from(run, "import-line", only_failed_items=True, idempotency_key="k").generation == 1
    with pytest.raises(IdempotencyConflict):
        rerun_from(run, "import-line", idempotency_key="k")
