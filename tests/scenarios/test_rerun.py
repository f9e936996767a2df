"""A run is done again from some stage on: what was done before is kept, what follows is done anew."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from tests.invariants import check_all, events
from tests.reruns import Journey, fresh, rows
from workflow_engine import cancel_run, create_run, plan_rerun, rerun_from
from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions.results import Completed, Notes
from workflow_engine.errors import InvalidTransition, StageNotFound
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.hosts.wait import result_of
from workflow_engine.kernel.commands import FinishStages, Outcome
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.payloads import inline


@pytest.fixture
def journey(known: Any, kernel: Any) -> Journey:
    journey = Journey()
    known(journey.workflow)
    return journey


def test_t24_output_duration_cost_and_tokens_land_on_the_run_and_in_the_event(
    journey: Journey, host: InlineHost
) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()

    run = fresh(run)
    result = result_of(run)
    assert (run.get_output(), result.output.value) == ({"value": 7}, 7)
    assert (run.total_cost, run.total_tokens) == (2.0, 400)
    assert (result.total_cost, result.total_tokens) == (2.0, 400)
    assert run.events.get(type="run.completed").payload == {
        "workflow_id": "journey",
        "output": ["last"],
        "duration_ms": 0,
        "total_cost": 2.0,
        "total_tokens": 400,
    }
    check_all()


@pytest.mark.parametrize(
    ("stage_id", "again"),
    [
        ("first", {"first": 2, "left": 2, "right": 2, "last": 2}),
        # The whole group, not only the stage that is named.
        ("left", {"first": 1, "left": 2, "right": 2, "last": 2}),
        ("right", {"first": 1, "left": 2, "right": 2, "last": 2}),
        ("last", {"first": 1, "left": 1, "right": 1, "last": 2}),
    ],
)
def test_t49_a_rerun_of_a_completed_run_keeps_what_came_before_the_stage(
    journey: Journey, host: InlineHost, stage_id: str, again: dict[str, int]
) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()
    kept = {row.stage: row.output for row in StageRun.objects.filter(run=run) if again[row.stage] == 1}

    begun = rerun_from(run, stage_id)

    assert (begun.status, begun.generation, begun.finished_at, begun.get_output()) == ("RUNNING", 1, None, None)
    assert (begun.total_cost, begun.total_tokens) == (0.5 * len(kept), 100 * len(kept))
    host.drain()
    run = fresh(run)
    assert (run.status, run.generation, run.get_output()) == ("COMPLETED", 1, {"value": 7})
    assert journey.entered == Counter(again)
    # Later groups have the generation of the rerun; rows that were kept have their own.
    assert {stage: generation for stage, _, generation in rows(run)} == {
        stage: count - 1 for stage, count in again.items()
    }
    assert {row.stage: row.output for row in StageRun.objects.filter(run=run) if row.stage in kept} == kept
    assert (run.total_cost, run.total_tokens) == (2.0, 400)
    check_all()


def test_t49_a_rerun_from_the_stage_that_failed_completes_the_run(journey: Journey, host: InlineHost) -> None:
    journey.broken = {"right"}
    run = create_run("journey", {"value": 1})
    host.drain()
    failed = fresh(run)
    journey.broken.clear()

    begun = rerun_from(run, "right", actor="ada")

    assert (failed.status, failed.error["stage"]) == ("FAILED", "right")
    assert (begun.status, begun.error) == ("RUNNING", None)
    # Their earlier rows are still there, and count no more.
    assert rows(run) == [("first", "COMPLETED", 0), ("left", "PENDING", 1), ("right", "PENDING", 1)]
    assert StageRun.objects.filter(run=run, superseded_at__isnull=False).count() == 2
    host.drain()
    assert fresh(run).status == "COMPLETED"
    assert events(run)[events(run).index("run.failed") :][:2] == ["run.failed", "run.rerun"]
    assert run.events.get(type="run.rerun").payload == {
        "workflow_id": "journey",
        "stage_id": "right",
        "superseded": ["left", "right"],
        "actor": "ada",
    }
    check_all()


def test_t49_a_cancelled_run_goes_on_from_where_it_was(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.execute(host.take(run.pk)[0])
    cancel_run(run, reason="wait")

    rerun_from(run, "left")
    host.drain()

    run = fresh(run)
    assert (run.status, run.data.cancel_reason, run.get_output()) == ("COMPLETED", "", {"value": 7})
    assert journey.entered["first"] == 1
    check_all()


def test_t49_a_run_that_was_cancelled_before_it_began_begins(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    cancel_run(run)

    rerun_from(run, "first")
    host.drain()

    assert fresh(run).status == "COMPLETED"
    check_all()


def test_t49_a_run_can_be_rerun_again_and_again(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()
    for stage_id in ("last", "first", "left", "last"):
        rerun_from(run, stage_id)
        host.drain()

    run = fresh(run)
    assert (run.status, run.generation, run.get_output()) == ("COMPLETED", 4, {"value": 7})
    assert {stage: generation for stage, _, generation in rows(run)} == {"first": 2, "left": 3, "right": 3, "last": 4}
    assert events(run).count("run.completed") == 5
    check_all()


def test_t49_files_and_stored_values_of_two_generations_never_meet(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()
    rerun_from(run, "left")
    host.drain()

    files = {(item.stage, item.stage_run.generation): item.read() for item in run.artifacts.all()}

    assert files["left", 0] == b"generation 0"
    assert files["left", 1] == b"generation 1"
    assert ("first", 1) not in files
    check_all()


def test_t49_other_config_is_laid_over_that_of_the_run(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1}, config={"left": {"amount": 10}, "last": {"word": "kept"}})
    host.drain()

    rerun_from(run, "left", config={"left": {"word": "new"}, "last": {"amount": 5}})
    host.drain()

    run = fresh(run)
    # first: 2; left: 12, right: 3; last: 15 + 5
    assert run.get_output() == {"value": 20}
    assert journey.words == {"first": "none", "left": "new", "right": "none", "last": "kept"}
    assert run.data.config["left"] == {"amount": 10, "word": "new"}
    assert StageRun.objects.current().get(run=run, stage="last").config == {"amount": 5, "word": "kept"}
    check_all()


@pytest.mark.django_db(transaction=True)
def test_t49_workers_are_woken_once_the_rerun_is_committed(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()
    pushed = get_kernel().ports.transport.pushed  # type: ignore[attr-defined]
    pushed.clear()

    with transaction.atomic():
        rerun_from(run, "left")
        before = list(pushed)

    due = StageRun.objects.current().filter(run=run, status="PENDING")
    assert before == []
    assert {message.stage_run_id for message in pushed} == {row.pk for row in due}
    assert [row.rank_at <= row.due_at for row in due] == [True, True]


def test_t50_an_unknown_stage_is_refused_and_the_known_ones_are_named(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()

    with pytest.raises(StageNotFound, match="'first', 'left', 'right', 'last'"):
        rerun_from(run, "middle")

    assert fresh(run).generation == 0


def test_t50_a_run_that_has_not_ended_is_refused(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    for status in ("PENDING", "RUNNING"):
        with pytest.raises(InvalidTransition, match=f"is {status}: only a run that is COMPLETED, FAILED or CANCELLED"):
            rerun_from(run, "first")
        host.take(run.pk)

    assert events(run) == ["run.created", "run.started", "stage.started"]


def test_t50_a_stage_before_it_that_did_not_succeed_is_named(journey: Journey, host: InlineHost) -> None:
    journey.broken = {"left"}
    run = create_run("journey", {"value": 1})
    host.drain()

    with pytest.raises(InvalidTransition, match="stage 'left' before it is FAILED"):
        rerun_from(run, "last")

    assert (fresh(run).status, fresh(run).generation) == ("FAILED", 0)
    check_all()


def test_t50_a_stage_before_it_that_has_not_begun_is_named(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    cancel_run(run)

    with pytest.raises(InvalidTransition, match="stage 'first' before it has not begun"):
        rerun_from(run, "left")


def test_t50_the_same_key_reruns_once(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()

    first = rerun_from(run, "left", idempotency_key="again")
    host.drain()
    second = rerun_from(run, "left", idempotency_key="again")

    assert (first.generation, first.status) == (1, "RUNNING")
    assert (second.generation, second.status) == (1, "COMPLETED")
    assert events(run).count("run.rerun") == 1
    check_all()


@pytest.mark.django_db(transaction=True)
def test_t50_rows_and_blobs_survive_a_rerun_that_is_rolled_back(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    host.drain()
    blobs = get_kernel().ports.blobs
    before = (rows(run), events(run), sorted(blobs.list("")))

    with pytest.raises(LookupError), transaction.atomic():
        rerun_from(run, "first", idempotency_key="again")
        raise LookupError

    assert (rows(run), events(run), sorted(blobs.list(""))) == before
    assert (fresh(run).status, fresh(run).get_output()) == ("COMPLETED", {"value": 7})
    # The key went with it.
    assert rerun_from(run, "first", idempotency_key="again").generation == 1
    host.drain()
    assert [item.read() for item in run.artifacts.filter(stage_run__generation=0)] == [b"generation 0"] * 4
    check_all()


def test_a_preview_says_what_is_kept_and_writes_nothing(journey: Journey, host: InlineHost) -> None:
    journey.broken = {"right"}
    run = create_run("journey", {"value": 1})
    host.drain()

    plan = plan_rerun(run, "left")

    assert (plan.run_id, plan.stage_id, plan.generation) == (run.pk, "left", 1)
    assert [(one.stage_id, one.group, one.status) for one in plan.kept] == [("first", 1, "COMPLETED")]
    assert [(one.stage_id, one.status) for one in plan.again] == [
        ("left", "COMPLETED"),
        ("right", "FAILED"),
        ("last", ""),
    ]
    assert plan.refused == ("last",)
    assert (fresh(run).status, fresh(run).generation) == ("FAILED", 0)
    assert WorkflowRun.objects.get(pk=run.pk).event_seq == len(events(run))


def test_a_late_finish_of_the_old_generation_is_a_ghost(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    (late,) = host.take(run.pk)
    cancel_run(run)
    rerun_from(run, "first")
    before = (rows(run), events(run))

    outcome = Outcome(late, Completed(inline({"value": 99}), Notes({"cost": 9})), timedelta(0))
    for together in (True, False):
        command = FinishStages(outcomes=(outcome,), together=together)
        assert [one.kind for one in get_kernel().dispatch(command).finished] == ["ghost"]

    assert (rows(run), events(run)) == before
    host.drain()
    assert fresh(run).get_output() == {"value": 7}
    check_all()
