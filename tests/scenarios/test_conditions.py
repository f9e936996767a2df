"""Stages that run only if an earlier output asks for it: ``when=``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from tests.invariants import check_all, events
from workflow_engine import Output, create_run
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import InvalidDefinition
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.models import OutboxEvent, StageRun, WorkflowRun
from workflow_engine.testing import run_workflow

pytestmark = pytest.mark.django_db


class Letter(BaseModel):
    kind: str
    amount: int = 0
    tags: list[str] = []


@stage("classify")
def classify(ctx: StageContext[Letter]) -> Letter:
    return ctx.input


@stage("book", when=(Output(classify).kind == "invoice") & (Output(classify).amount > 100))
def book(ctx: StageContext[Letter]) -> Letter:
    return ctx.input.model_copy(update={"tags": ["booked"]})


@stage("archive")
def archive(ctx: StageContext[Letter]) -> list[str]:
    return [ctx.input.kind, *ctx.input.tags]


def letters() -> Any:
    return define_workflow("letters", input=Letter).pipe(classify).pipe(book).pipe(archive).build()


def statuses(run: WorkflowRun) -> dict[str, str]:
    return dict(StageRun.objects.filter(run=run).values_list("stage", "status"))


def test_a_stage_whose_condition_holds_runs(known: Callable[..., Any], host: InlineHost) -> None:
    known(letters())
    run = create_run("letters", {"kind": "invoice", "amount": 101})
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", ["invoice", "booked"])
    check_all()


def test_a_skipped_stage_never_starts_and_the_next_gets_what_it_would_have_got(
    known: Callable[..., Any], host: InlineHost
) -> None:
    known(letters())
    run = create_run("letters", {"kind": "invoice", "amount": 100})
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.get_output()) == ("COMPLETED", ["invoice"])
    assert statuses(run) == {"classify": "COMPLETED", "book": "SKIPPED", "archive": "COMPLETED"}
    skipped = OutboxEvent.objects.get(type="stage.skipped").payload
    assert skipped["when"] == "classify.kind == 'invoice' and classify.amount > 100"
    row = StageRun.objects.get(stage="book")
    assert (row.attempt, row.token, row.started_at, row.output) == (0, 0, None, None)
    assert events(run).count("stage.started") == 2
    check_all()


def test_the_plan_shows_conditions_before_the_run() -> None:
    item = letters().plan()["groups"][1]["stages"][0]

    assert item["when"]["op"] == "and"
    assert letters().get_stage("book").when is not None
    assert str(letters().get_stage("book").when) == "classify.kind == 'invoice' and classify.amount > 100"


def test_a_run_follows_the_condition_of_its_own_plan(known: Callable[..., Any], host: InlineHost) -> None:
    known(letters())
    run = create_run("letters", {"kind": "note"})
    data = WorkflowRun.objects.select_related("data").get(pk=run.pk).data
    data.plan["groups"][1]["stages"][0]["when"] = {
        "op": "==",
        "stage": "classify",
        "path": ["kind"],
        "value": "note",
    }
    type(data).objects.filter(pk=data.pk).update(plan=data.plan)
    host.drain()

    assert statuses(run)["book"] == "COMPLETED"


def test_in_a_group_the_key_of_a_skipped_stage_is_absent(known: Callable[..., Any]) -> None:
    @stage("left", when=Output(classify).kind == "left")
    def left(ctx: StageContext[Letter]) -> str:
        return "left"

    @stage("right", when=Output(classify).kind.is_in(["left", "right"]))
    def right(ctx: StageContext[Letter]) -> str:
        return "right"

    @stage("join")
    def join(ctx: StageContext[dict[str, str]]) -> dict[str, str]:
        return {**ctx.input, "optional": str(ctx.optional(left))}

    workflow = define_workflow("sides", input=Letter).pipe(classify).parallel(left, right).pipe(join).build()

    assert run_workflow(workflow, {"kind": "left"}).output == {"left": "left", "right": "right", "optional": "left"}
    assert run_workflow(workflow, {"kind": "right"}).output == {"right": "right", "optional": "None"}
    assert run_workflow(workflow, {"kind": "none"}).output == {"optional": "None"}


def test_a_run_whose_last_stages_are_skipped_ends_with_what_was_there_before(known: Callable[..., Any]) -> None:
    @stage("never", when=Output(classify).kind == "never")
    def never(ctx: StageContext[Letter]) -> Letter:
        return ctx.input

    @stage("never-either", when=Output(never).kind == "never")
    def never_either(ctx: StageContext[Letter]) -> Letter:
        return ctx.input

    workflow = define_workflow("early", input=Letter).pipe(classify).pipe(never).pipe(never_either).build()

    result = run_workflow(workflow, {"kind": "x"})

    assert (result.status, result.output) == ("COMPLETED", Letter(kind="x"))
    assert [item.status for item in result.stages] == ["COMPLETED", "SKIPPED", "SKIPPED"]


def test_more_skipped_stages_in_a_row_than_one_look_takes(known: Callable[..., Any]) -> None:
    builder = define_workflow("skips", input=Letter).pipe(classify)
    for number in range(20):

        @stage(f"skip-{number}", when=Output("classify").amount < 0)
        def skip(ctx: StageContext[Letter]) -> Letter:
            return ctx.input

        builder = builder.pipe(skip)

    result = run_workflow(builder.pipe(archive).build(), {"kind": "x"})

    assert (result.status, result.output) == ("COMPLETED", ["x"])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Output("classify").kind != "x", False),
        (~(Output("classify").kind == "x"), False),
        ((Output("classify").kind == "y") | (Output("classify").amount >= 0), True),
        (Output("classify").tags[0] == "first", True),
        (Output("classify").tags[9] == "first", False),
        (Output("classify")["kind"]["deeper"] == None, True),  # noqa: E711 - a condition, not a comparison
        (Output("classify").tags[7] > 3, False),
        (Output("classify").tags, True),
        (Output("classify").amount, False),
        (Output("classify").amount <= 0, True),
    ],
    ids=str,
)
def test_conditions(condition: Any, holds: bool) -> None:
    @stage("perhaps", when=condition)
    def perhaps(ctx: StageContext[Letter]) -> str:
        return "ran"

    workflow = define_workflow("perhaps", input=Letter).pipe(classify).pipe(perhaps).build()

    result = run_workflow(workflow, {"kind": "x", "tags": ["first"]})

    assert (result.stages[1].status == "COMPLETED") is holds


def test_values_that_cannot_be_ordered_fail_the_stage_and_name_the_place_without_the_value() -> None:
    @stage("compare", when=Output(classify).kind > 3)
    def compare(ctx: StageContext[Letter]) -> str:
        return "ran"

    result = run_workflow(
        define_workflow("compares", input=Letter).pipe(classify).pipe(compare).build(), {"kind": "s3"}
    )

    assert (result.status, result.error["code"]) == ("FAILED", "CONDITION_FAILED")  # type: ignore[index]
    assert result.error["message"] == "classify.kind > 3: str and int cannot be compared by >"  # type: ignore[index]


def test_a_condition_on_a_large_output_reads_the_blob_store_outside_of_any_transaction() -> None:
    @stage("big")
    def big(ctx: StageContext[None]) -> dict[str, str]:
        return {"text": "x" * 100_000, "kind": "big"}

    @stage("only-small", when=Output(big).kind == "small")
    def only_small(ctx: StageContext[dict[str, str]]) -> int:
        return 1

    @stage("length")
    def length(ctx: StageContext[dict[str, str]]) -> int:
        return len(ctx.input["text"])

    assert run_workflow(define_workflow("bigs").pipe(big).pipe(only_small).pipe(length).build()).output == 100_000


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: stage("a", when=True), "when= takes a condition"),
        (lambda: stage("a", when=lambda outputs: True), "when= takes a condition"),
        (lambda: Output("a").b == {"c": 1}, "compare with text, a number, a boolean or None"),
        (lambda: (Output("a").b == 1) and (Output("a").c == 2), "Join conditions with & | ~"),
    ],
    ids=["bool", "callable", "mapping", "and"],
)
def test_what_is_no_condition_is_refused_at_definition(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidDefinition, match=text.replace("|", r"\|")):
        make()


def test_a_condition_on_a_later_or_unknown_stage_is_refused_by_name() -> None:
    with pytest.raises(InvalidDefinition, match=r"reads the output of 'classify', which no earlier group has"):
        define_workflow("wrong", input=Letter).pipe(book)
