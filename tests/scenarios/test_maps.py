"""A stage that runs once per item of a list: rows, order, failures, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.invariants import check_all, events
from tests.maps import Importer, Line, Summary, Unlucky
from workflow_engine import (
    ItemError,
    Output,
    Retry,
    StageContext,
    Wait,
    answer_stage,
    cancel_run,
    create_run,
    define_workflow,
    pause_run,
    resume_run,
    stage,
)
from workflow_engine.errors import MissingStageOutput
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Finished
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import NOT_AN_ITEM, StageAttempt, StageMap, StageRun, WorkflowLog, WorkflowRun
from workflow_engine.models.base import HELD_BACK
from workflow_engine.testing import FakeClock, run_workflow, stage_context

pytestmark = pytest.mark.django_db


def items(run: WorkflowRun) -> list[StageRun]:
    return list(run.stage_runs.filter(map_index__gt=NOT_AN_ITEM).order_by("generation", "map_index"))


def steps(host: InlineHost) -> Iterator[Finished]:
    """Make one attempt after the other, as long as something is due."""
    pending: list[StartedStage] = []
    while pending or (pending := host.take()):
        finished = host.execute(pending.pop(0))
        pending += finished.next
        yield finished


def until_items(host: InlineHost) -> None:
    """Come to where the first item of a map has run."""
    next(one for one in steps(host) if StageMap.objects.filter(done__gt=0).exists())


def error_of(run: WorkflowRun) -> dict[str, Any]:
    run.refresh_from_db()
    assert run.status == "FAILED"
    assert run.error is not None
    return run.error


def test_every_item_is_a_row_and_results_come_in_item_order(known: Any, host: InlineHost) -> None:
    importer = Importer(max_parallel=3)
    known(importer.workflow)

    run = create_run("importer", 7)
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED"
    assert Summary.model_validate(run.get_output()) == Summary(
        outputs=[0, 10, 20, 30, 40, 50, 60], failed=[], shown=7, total=7
    )
    rows = items(run)
    assert [row.map_index for row in rows] == list(range(7))
    assert {row.status for row in rows} == {"COMPLETED"}
    assert importer.entered == Counter(range(7))
    assert StageAttempt.objects.filter(run=run, stage="import-line", outcome="completed").count() == 7
    check_all()


def test_the_stage_that_follows_may_take_the_whole_list(known: Any) -> None:
    importer = Importer()

    @stage("total")
    def total(ctx: StageContext[list[int]]) -> int:
        return sum(ctx.input) + sum(ctx.require(importer.stages[1]))  # type: ignore[call-overload]

    lines, import_line, _ = importer.stages
    workflow = define_workflow("whole", input=int).pipe(lines).map(import_line).pipe(total).build()

    assert run_workflow(workflow, 4).output == 2 * (0 + 10 + 20 + 30)


def test_a_map_at_the_end_gives_a_list_and_one_at_the_beginning_gets_the_input(known: Any) -> None:
    @stage("double")
    def double(ctx: StageContext[int]) -> int:
        return ctx.input * 2

    workflow = define_workflow("list", input=list[int]).map(double).build()

    result = run_workflow(workflow, [3, 1, 2])

    assert result.output == [6, 2, 4]
    assert workflow.output_schema() == {"type": "array", "items": {"type": "integer"}}


def test_a_map_over_nothing_is_done_at_once(known: Any) -> None:
    result = run_workflow(Importer().workflow, 0)

    assert result.status == "COMPLETED"
    assert result.output == Summary(outputs=[], failed=[], shown=0, total=0)
    check_all()


def test_maps_follow_each_other(known: Any) -> None:
    importer = Importer()
    lines, import_line, _ = importer.stages

    @stage("halve")
    def halve(ctx: StageContext[int]) -> int:
        return ctx.input // 2

    workflow = (
        define_workflow("twice", input=int)
        .pipe(lines)
        .map(import_line)
        .map(halve, over=lambda numbers: [number for number in numbers if number])
        .build()
    )

    assert run_workflow(workflow, 4).output == [5, 10, 15]


def test_a_failed_item_fails_the_stage_with_its_own_error_and_no_further_item_starts(
    known: Any, host: InlineHost
) -> None:
    importer = Importer(max_parallel=2)
    importer.bad = {1}
    known(importer.workflow)

    run = create_run("importer", 50)
    host.drain()

    error = error_of(run)
    assert (error["code"], error["class"], error["stage"], error["item"]) == (
        "STAGE_FAILED",
        "Unlucky",
        "import-line",
        1,
    )
    assert error["message"] == "item 1: line 1"
    statuses = Counter(row.status for row in items(run))
    assert statuses["FAILED"] == 1
    assert statuses["CANCELLED"] >= 47
    assert sum(importer.entered.values()) <= 3
    check_all()


def test_failed_items_are_collected_as_typed_errors(known: Any) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {2, 4}

    @stage("look")
    def look(ctx: StageContext[list[int | ItemError]]) -> list[str]:
        return [f"{one.item} {one.error_class} {one.attempts}" for one in ctx.input if isinstance(one, ItemError)]

    lines, import_line, _ = importer.stages
    workflow = (
        define_workflow("collects", input=int).pipe(lines).map(import_line, on_item_error="collect").pipe(look).build()
    )

    assert run_workflow(workflow, 6).output == ["2 Unlucky 1", "4 Unlucky 1"]
    result = run_workflow(importer.workflow, 6)
    assert result.output == Summary(outputs=[0, 10, 30, 50], failed=[2, 4], shown=6, total=6)
    check_all()


def test_what_a_failed_item_was_is_told_beside_its_error(known: Any) -> None:
    importer = Importer(on_item_error="collect")
    importer.bad = {2, 4}
    lines, import_line, _ = importer.stages

    @stage("rejects")
    def rejects(ctx: StageContext[None]) -> list[str]:
        found = ctx.items(import_line).failures()
        return [f"{line.number}: {error.message}" for line, error in found if isinstance(line, Line)]

    workflow = (
        define_workflow("rejects", input=int).pipe(lines).map(import_line, on_item_error="skip").pipe(rejects).build()
    )

    assert run_workflow(workflow, 6).output == ["2: line 2", "4: line 4"]


def test_failed_items_are_skipped(known: Any) -> None:
    importer = Importer(on_item_error="skip")
    importer.bad = {0, 3}

    result = run_workflow(importer.workflow, 5)

    assert result.status == "COMPLETED"
    assert result.output == Summary(outputs=[10, 20, 40], failed=[0, 3], shown=3, total=5)


@pytest.mark.parametrize(
    ("needed", "bad", "status"),
    [(3, 2, "COMPLETED"), (4, 2, "FAILED"), (0.6, 2, "COMPLETED"), (0.61, 2, "FAILED"), (1.0, 0, "COMPLETED")],
)
def test_enough_items_must_succeed(known: Any, needed: float, bad: int, status: str) -> None:
    importer = Importer(on_item_error="collect", min_success=needed)
    importer.bad = set(range(bad))

    result = run_workflow(importer.workflow, 5)

    assert result.status == status
    if status == "FAILED":
        assert result.error is not None
        assert result.error["code"] == "TOO_FEW_SUCCEEDED"
        assert result.error["message"] == (
            "3 of 5 items succeeded, 4 were needed. The first that failed: Unlucky: item 0: line 0"
        )
    check_all()


def test_items_have_retries_and_budgets_of_their_own(known: Any, host: InlineHost, clock: FakeClock) -> None:
    importer = Importer(attempts=3)
    importer.bad = {1}
    known(importer.workflow)

    run = create_run("importer", 3)
    host.drain()
    assert importer.entered == Counter({0: 1, 1: 1, 2: 1})
    importer.bad.clear()
    clock.advance(timedelta(seconds=5))
    host.drain()

    run.refresh_from_db()
    assert run.status == "COMPLETED"
    assert [row.failures for row in items(run)] == [0, 1, 0]
    assert [row.attempt for row in items(run)] == [1, 2, 1]
    check_all()


def test_a_retry_that_waits_does_not_start_again_once_another_item_has_failed(
    known: Any, host: InlineHost, clock: FakeClock
) -> None:
    importer = Importer(attempts=2)
    importer.bad = {0, 1}
    known(importer.workflow)

    run = create_run("importer", 2)
    host.drain()
    run.refresh_from_db()
    assert run.status == "RUNNING"
    StageRun.objects.filter(run=run, map_index=1).update(due_at=clock.now(), rank_at=clock.now())
    host.drain()

    assert error_of(run)["item"] == 1
    assert [row.status for row in items(run)] == ["CANCELLED", "FAILED"]
    clock.advance(timedelta(minutes=1))
    assert host.drain() == 0
    check_all()


def test_no_more_items_are_under_way_than_may_be(known: Any, host: InlineHost, kernel: Kernel) -> None:
    importer = Importer(max_parallel=4)
    known(importer.workflow)
    run = create_run("importer", 20)
    seen = set()

    for _ in steps(host):
        due = StageRun.objects.filter(run=run, map_index__gte=0, status__in=("PENDING", "RUNNING"))
        seen.add(due.exclude(due_at=HELD_BACK).count())

    assert max(seen) == 4
    run.refresh_from_db()
    assert run.status == "COMPLETED"


def test_the_setting_bounds_a_map_that_does_not_say(known: Any, host: InlineHost, kernel: Kernel) -> None:
    known(Importer().workflow)
    run = create_run("importer", 150)

    until_items(host)

    counts = StageMap.objects.get(run=run)
    assert (counts.total, counts.max_parallel) == (150, kernel.ports.limits.max_parallel)
    assert counts.opened - counts.ended <= 100


@pytest.mark.parametrize(
    ("over", "text"),
    [
        (lambda found: 3, "over must return a list or tuple, got int"),
        (lambda found: "abc", "over must return a list or tuple, got str"),
        (lambda found: {"a": 1}, "over must return a list or tuple, got dict"),
        (lambda found: (line for line in found), "over must return a list or tuple, got generator"),
        (lambda found: [*found, {"number": "x"}], "items.2.number"),
        (lambda found: [object()], "items.0"),
    ],
)
def test_what_is_no_list_of_items_fails_the_stage_and_writes_no_item(
    known: Any, host: InlineHost, over: Callable[[Any], Any], text: str
) -> None:
    importer = Importer()
    lines, import_line, _ = importer.stages
    known(define_workflow("odd", input=int).pipe(lines).map(import_line, over=over).build())

    run = create_run("odd", 2)
    host.drain()

    error = error_of(run)
    assert (error["code"], error["stage"]) == ("INVALID_INPUT", "import-line")
    assert text in error["message"]
    assert not items(run)
    assert not StageMap.objects.exists()
    check_all()


def test_an_item_that_is_not_json_is_named(known: Any, host: InlineHost) -> None:
    @stage("raw")
    def raw(ctx: StageContext[None]) -> None:
        pass

    known(define_workflow("raw", input=int).map(raw, over=lambda count: [1, float("nan"), 2]).build())

    run = create_run("raw", 1)
    host.drain()

    assert "items.1: NaN and infinities are not JSON numbers" in error_of(run)["message"]
    assert not items(run)


def test_over_that_raises_is_retried_by_the_policy_of_the_stage(known: Any, host: InlineHost, clock: FakeClock) -> None:
    calls: list[int] = []
    lines, import_line, _ = Importer(attempts=2).stages

    def over(found: list[Line]) -> list[Line]:
        calls.append(1)
        raise Unlucky("no list today")

    known(define_workflow("raises", input=int).pipe(lines).map(import_line, over=over).build())
    run = create_run("raises", 2)
    host.drain()
    clock.advance(timedelta(seconds=5))
    host.drain()

    error = error_of(run)
    assert (error["class"], error["message"], len(calls)) == ("Unlucky", "no list today", 2)
    assert not items(run)


def test_more_items_than_allowed_are_refused_before_any_row_is_written(
    known: Any, host: InlineHost, kernel: Kernel
) -> None:
    import_line = Importer().stages[1]
    too_many = kernel.ports.limits.max_map_items + 1
    known(define_workflow("wide", input=int).map(import_line, over=lambda count: [None] * count).build())

    run = create_run("wide", too_many)
    host.drain()

    error = error_of(run)
    assert error["code"] == "TOO_MANY_ITEMS"
    assert "10,001 items, the limit is 10,000 (setting MAX_MAP_ITEMS)" in error["message"]
    assert not items(run)


def test_a_cancelled_run_leaves_no_item_open(known: Any, host: InlineHost) -> None:
    importer = Importer(max_parallel=5)
    known(importer.workflow)
    run = create_run("importer", 30)
    until_items(host)
    (started,) = host.take()

    cancel_run(run)

    assert host.execute(started).kind == "ghost"
    statuses = Counter(row.status for row in items(run))
    assert set(statuses) == {"COMPLETED", "CANCELLED"}
    counts = StageMap.objects.get()
    assert (counts.done, counts.cancelled) == (statuses["COMPLETED"], statuses["CANCELLED"])
    # Of items that never began, the end of the stage says enough.
    assert events(run).count("stage.cancelled") == 2
    check_all()


def test_a_paused_run_starts_no_further_item(known: Any, host: InlineHost) -> None:
    importer = Importer(max_parallel=2)
    known(importer.workflow)
    run = create_run("importer", 10)
    until_items(host)
    pause_run(run)

    before = sum(importer.entered.values())
    host.drain()
    assert sum(importer.entered.values()) <= before + 1

    resume_run(run)
    host.drain()
    run.refresh_from_db()
    assert (run.status, sum(importer.entered.values())) == ("COMPLETED", 10)
    check_all()


def test_items_log_progress_metrics_and_tokens_of_their_own(known: Any, host: InlineHost) -> None:
    tokens: list[str] = []

    @stage("work")
    def work(ctx: StageContext[int]) -> None:
        tokens.append(ctx.idempotency_token)
        ctx.log.info("item", index=ctx.item_index)
        ctx.metric("cost", 0.5)

    known(define_workflow("notes", input=list[int]).map(work).build())
    run = create_run("notes", [1, 2, 3])
    host.drain()

    run.refresh_from_db()
    assert (run.status, run.total_cost, len(set(tokens))) == ("COMPLETED", 1.5, 3)
    logged = WorkflowLog.objects.filter(run=run).order_by("stage_run__map_index")
    assert [line.fields for line in logged] == [{"index": 0}, {"index": 1}, {"index": 2}]
    check_all()


def test_items_wait_for_answers_each_for_its_own(known: Any, host: InlineHost) -> None:
    wait = Wait("look", bool)

    @stage("review", waits=[wait])
    def review(ctx: StageContext[str]) -> str:
        return f"{ctx.input}: {ctx.wait_for(wait)}"

    known(define_workflow("reviews", input=list[str]).map(review).build())
    run = create_run("reviews", ["a", "b"])
    host.drain()
    assert [row.status for row in items(run)] == ["SUSPENDED", "SUSPENDED"]

    answer_stage(run, "review", True, item=1)
    answer_stage(run, "review", False, item=0)
    host.drain()

    run.refresh_from_db()
    assert run.get_output() == ["a: False", "b: True"]
    check_all()


def test_a_condition_decides_about_the_whole_map(known: Any) -> None:
    lines = Importer().stages[0]

    @stage("only-many", when=Output(lines)[2].number == 2)
    def only_many(ctx: StageContext[Line]) -> int:
        return ctx.input.number

    workflow = define_workflow("maybe", input=int).pipe(lines).map(only_many).build()

    assert run_workflow(workflow, 3).output == [0, 1, 2]
    assert run_workflow(workflow, 2).output == [Line(number=0), Line(number=1)]


def test_large_items_and_results_go_to_the_blob_store(known: Any) -> None:
    @stage("echo")
    def echo(ctx: StageContext[str]) -> str:
        return ctx.input * 2

    @stage("sizes")
    def sizes(ctx: StageContext[None]) -> list[int]:
        return [len(text) for text in ctx.items(echo).outputs()]

    workflow = define_workflow("large", input=int).map(echo, over=lambda n: ["x" * n, "y"]).pipe(sizes).build()

    result = run_workflow(workflow, 100_000)

    assert result.output == [200_000, 2]
    first, second = StageRun.objects.filter(run=result.run_id, map_index__gte=0).order_by("map_index")
    assert ("blob" in first.item, "blob" in first.output) == (True, True)
    assert ("blob" in second.item, "blob" in second.output) == (False, False)


def test_an_async_stage_may_take_the_list_of_a_map(known: Any) -> None:
    @stage("double")
    def double(ctx: StageContext[int]) -> int:
        return ctx.input * 2

    @stage("total")
    async def total(ctx: StageContext[list[int]]) -> int:
        return sum(ctx.input) + sum(await ctx.arequire(double))  # type: ignore[call-overload]

    workflow = define_workflow("async-list", input=list[int]).map(double).pipe(total).build()

    assert run_workflow(workflow, [1, 2]).output == 12


def test_items_of_what_was_not_mapped_are_refused(known: Any, host: InlineHost) -> None:
    lines = Importer().stages[0]

    @stage("wrong")
    def wrong(ctx: StageContext[None]) -> int:
        return len(ctx.items(lines))

    known(define_workflow("wrong", input=int).pipe(lines).pipe(wrong).build())
    run = create_run("wrong", 2)
    host.drain()

    assert "Stage 'lines' was not mapped: read its output with ctx.require()." in error_of(run)["message"]


def test_async_bodies_read_items_and_are_mapped_too(known: Any) -> None:
    @stage("later")
    async def later(ctx: StageContext[int]) -> int:
        return ctx.input + 1

    @stage("collect")
    async def collect(ctx: StageContext[None]) -> list[int]:
        return [one async for one in await ctx.aitems(later) if not isinstance(one, ItemError)]

    workflow = define_workflow("async-map", input=list[int]).map(later).pipe(collect).build()

    assert run_workflow(workflow, [1, 2, 3]).output == [2, 3, 4]


def test_a_body_that_reads_items_is_tested_like_a_function() -> None:
    importer = Importer(on_item_error="collect")
    _, import_line, summary = importer.stages
    failed = ItemError(item=1, code="STAGE_FAILED")

    context = stage_context(summary, outputs={import_line: [5, failed]})

    assert summary(context) == Summary(outputs=[5], failed=[1], shown=2, total=2)
    with pytest.raises(MissingStageOutput):
        summary(stage_context(summary))


def test_the_progress_of_the_map_is_that_of_its_items(known: Any) -> None:
    importer = Importer(on_item_error="skip")
    importer.bad = {1}

    result = run_workflow(importer.workflow, 4)

    snapshot = next(one for one in result.stages if one.stage_id == "import-line")
    assert len(result.stages) == 3
    assert snapshot.progress == {
        "percent": 100.0,
        "message": "3 of 4 items, 1 failed",
        "items": {"total": 4, "done": 3, "failed": 1, "cancelled": 0, "running": 0},
    }


class Odd(BaseModel):
    value: int


@pytest.mark.parametrize("retry", [Retry(max_attempts=1)])
def test_an_output_that_does_not_fit_fails_its_item_alone(known: Any, retry: Retry) -> None:
    @stage("odd", retry=retry)
    def odd(ctx: StageContext[int]) -> Odd:
        return {"value": "x"} if ctx.input == 2 else Odd(value=ctx.input)  # type: ignore[return-value]

    workflow = define_workflow("odd-outputs", input=list[int]).map(odd, on_item_error="collect").build()

    first, second, third = run_workflow(workflow, [1, 2, 3]).output or []

    assert (first, third) == (Odd(value=1), Odd(value=3))
    assert isinstance(second, ItemError)
    assert second.code == "INVALID_OUTPUT"
