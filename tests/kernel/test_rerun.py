from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tests.invariants import check_all, events
from tests.reruns import Journey, fresh
from tests.workflows import Number, chain
from workflow_engine import cancel_run, create_run, plan_rerun, rerun_from
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.definitions.registry import registry_override
from workflow_engine.definitions.results import Completed
from workflow_engine.errors import (
    IdempotencyConflict,
    InvalidConfig,
    InvalidInput,
    InvalidTransition,
    RunNotFound,
    StageNotFound,
    WorkflowNotFound,
)
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FinishStages, Outcome, RerunFrom
from workflow_engine.models import RunData, StageRun, WorkflowRun
from workflow_engine.models.payloads import inline
from workflow_engine.testing import FakeClock


@pytest.fixture
def journey(known: Any, kernel: Kernel) -> Journey:
    journey = Journey()
    known(journey.workflow)
    return journey


@pytest.fixture
def run(journey: Journey, host: InlineHost) -> WorkflowRun:
    """Return a run that is COMPLETED."""
    run = create_run("journey", {"value": 1})
    host.drain()
    return run


def paths(error: InvalidConfig) -> dict[str, str]:
    return {item.path: item.message for item in error.errors}


@pytest.mark.parametrize("run_id", [uuid.uuid4(), "nonsense"])
def test_a_run_that_does_not_exist_is_refused(journey: Journey, run_id: Any) -> None:
    for call in (rerun_from, plan_rerun):
        with pytest.raises(RunNotFound):
            call(run_id, "first")


def test_a_preview_refuses_what_a_rerun_refuses(journey: Journey, host: InlineHost, run: WorkflowRun) -> None:
    with pytest.raises(StageNotFound):
        plan_rerun(run, "middle")
    with pytest.raises(InvalidConfig):
        plan_rerun(run, "last", config={"last": {"size": 1}})
    open_run = create_run("journey", {"value": 1})
    with pytest.raises(InvalidTransition, match="is PENDING"):
        plan_rerun(open_run, "first")


def test_every_error_of_the_config_is_told_with_its_path(run: WorkflowRun) -> None:
    config = {"last": {"amount": "many", "size": 1}, "right": 5, "middle": {}, "first": {"amount": 2}}

    with pytest.raises(InvalidConfig) as caught:
        rerun_from(run, "left", config=config)

    found = paths(caught.value)
    assert set(found) == {"last.amount", "last.size", "right", "middle", "first"}
    assert found["first"] == "it keeps its result, so its config cannot change; rerun from it"
    assert found["middle"] == "no such stage; known: first, left, right, last"
    assert events(run).count("run.rerun") == 0


def test_config_that_is_no_mapping_is_refused(run: WorkflowRun) -> None:
    with pytest.raises(InvalidConfig, match="must map stage ids to config, got list"):
        rerun_from(run, "left", config=["left"])  # type: ignore[arg-type]


def test_stored_fields_that_the_code_no_longer_knows_are_dropped(run: WorkflowRun) -> None:
    RunData.objects.filter(pk=run.pk).update(config={"last": {"amount": 3, "colour": "red"}})

    rerun_from(run, "last", config={"last": {"word": "new"}})

    assert fresh(run).data.config == {"last": {"amount": 3, "word": "new"}}


def test_a_field_given_by_its_name_replaces_what_is_stored_under_its_alias(known: Any, host: InlineHost) -> None:
    class Sized(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        size: int = Field(default=1, alias="theSize")

    @stage("sized")
    def sized(ctx: StageContext[Number, Sized]) -> Number:
        return Number(value=ctx.config.size)

    run = create_run(
        known(define_workflow("w", input=Number).pipe(sized).build()), {"value": 1}, config={"sized": {"theSize": 2}}
    )
    host.drain()

    rerun_from(run, sized, config={"sized": {"size": 3}})
    host.drain()

    assert fresh(run).get_output() == {"value": 3}


def test_without_config_a_run_of_a_workflow_that_is_gone_can_be_rerun(run: WorkflowRun) -> None:
    with registry_override():
        with pytest.raises(WorkflowNotFound):
            rerun_from(run, "last", config={"last": {}})
        assert rerun_from(run, "last").status == "RUNNING"


def test_the_plan_that_the_run_has_stored_decides(known: Any, host: InlineHost) -> None:
    run = create_run(known(chain(2)), {"value": 1})
    host.drain()

    with registry_override(chain(3)):
        with pytest.raises(StageNotFound, match="'add-1', 'add-2'"):
            rerun_from(run, "add-3")
        with pytest.raises(InvalidConfig, match="add-3: no such stage"):
            rerun_from(run, "add-2", config={"add-3": {}})


def test_the_same_key_with_other_content_is_a_conflict(run: WorkflowRun, host: InlineHost) -> None:
    rerun_from(run, "last", idempotency_key="again")
    host.drain()

    with pytest.raises(IdempotencyConflict):
        rerun_from(run, "first", idempotency_key="again")
    with pytest.raises(IdempotencyConflict):
        rerun_from(run, "last", config={"last": {"amount": 1}}, idempotency_key="again")
    # Another scope, another key.
    assert rerun_from(run, "first", idempotency_key="again", idempotency_scope="other").generation == 2


def test_a_replay_answers_with_what_the_first_has_done(run: WorkflowRun, host: InlineHost, kernel: Kernel) -> None:
    command = RerunFrom(run_id=run.pk, stage_id="left", actor="ada", idempotency_key="again")
    first = kernel.dispatch(command)
    host.drain()
    rerun_from(run, "last")

    second = kernel.dispatch(replace(command, actor="bob"))

    assert (first.generation, first.superseded, first.replayed) == (1, ("left", "right", "last"), False)
    assert second == replace(first, replayed=True)
    assert events(run).count("run.rerun") == 2


@pytest.mark.parametrize("key", ["", "x" * 256, 5])
def test_a_key_that_cannot_be_one_is_refused(run: WorkflowRun, key: Any) -> None:
    with pytest.raises(InvalidInput, match="idempotency_key"):
        rerun_from(run, "last", idempotency_key=key)


def test_a_refused_rerun_leaves_its_key_free(journey: Journey, host: InlineHost) -> None:
    run = create_run("journey", {"value": 1})
    with pytest.raises(InvalidTransition):
        rerun_from(run, "first", idempotency_key="again")
    host.drain()

    assert rerun_from(run, "first", idempotency_key="again").generation == 1


def test_times_error_and_deadline_begin_anew(known: Any, host: InlineHost, clock: FakeClock) -> None:
    journey = Journey("slow-journey", timeout=timedelta(hours=1))
    known(journey.workflow)
    journey.broken = {"last"}
    run = create_run("slow-journey", {"value": 1})
    host.drain()
    WorkflowRun.objects.filter(pk=run.pk).update(paused_at=clock.now(), unknown_since=clock.now())
    clock.advance(timedelta(days=1))

    begun = rerun_from(run, "last")

    assert (begun.error, begun.finished_at, begun.paused_at, begun.unknown_since) == (None, None, None, None)
    assert (begun.started_at, begun.deadline_at) == (clock.now(), clock.now() + timedelta(hours=1))
    # It does not go before everything else only because it is old.
    assert begun.rank_at == clock.now() - timedelta(minutes=25)


def test_without_a_timeout_there_is_no_deadline(run: WorkflowRun) -> None:
    assert rerun_from(run, "last").deadline_at is None


def test_tokens_of_superseded_rows_are_void(run: WorkflowRun) -> None:
    before = dict(StageRun.objects.filter(run=run).values_list("stage", "token"))

    rerun_from(run, "left")

    after = dict(StageRun.objects.filter(run=run, generation=0).values_list("stage", "token"))
    assert after == {**before, "left": before["left"] + 1, "right": before["right"] + 1, "last": before["last"] + 1}


def test_a_skipped_stage_counts_as_done(run: WorkflowRun) -> None:
    StageRun.objects.filter(run=run, stage="left").update(status="SKIPPED", output=None)

    assert rerun_from(run, "last").status == "RUNNING"
    assert [(one.stage_id, one.status) for one in plan_after(run)] == [
        ("first", "COMPLETED"),
        ("left", "SKIPPED"),
        ("right", "COMPLETED"),
    ]


def plan_after(run: WorkflowRun) -> Any:
    cancel_run(run)
    return plan_rerun(run, "last").kept


def test_a_rerun_by_others_while_the_config_is_checked_is_noticed(known: Any, host: InlineHost) -> None:
    others: list[Any] = []

    class Watched(BaseModel):
        amount: int = 1
        word: str = "none"

        @field_validator("word")
        @classmethod
        def meanwhile(cls, word: str) -> str:
            if others:
                others.pop()()
            return word

    @stage("only")
    def only(ctx: StageContext[Number, Watched]) -> Number:
        return Number(value=ctx.config.amount)

    run = create_run(known(define_workflow("w", input=Number).pipe(only).build()), {"value": 1})
    host.drain()

    def rerun_and_end() -> None:
        rerun_from(run, only, config={"only": {"amount": 7}})
        host.drain()

    others.append(rerun_and_end)
    rerun_from(run, only, config={"only": {"word": "mine"}}, idempotency_key="mine")
    host.drain()

    # Nothing of either is lost.
    assert (fresh(run).generation, fresh(run).data.config) == (2, {"only": {"amount": 7, "word": "mine"}})
    check_all()


def test_what_ends_together_goes_on_with_the_config_of_its_own_generation(
    known: Any, kernel: Kernel, host: InlineHost
) -> None:

    run = create_run(known(chain(2)), {"value": 1})
    (old,) = host.take(run.pk)
    cancel_run(run)
    rerun_from(run, "add-1", config={"add-2": {"amount": 50}})
    (new,) = host.take(run.pk)

    outcomes = tuple(Outcome(one, Completed(inline({"value": 2})), timedelta(0)) for one in (new, old))
    finished = kernel.dispatch(FinishStages(outcomes=outcomes, together=True)).finished

    assert [one.kind for one in finished] == ["completed", "ghost"]
    assert StageRun.objects.get(run=run, stage="add-2").config == {"amount": 50}
    check_all()
