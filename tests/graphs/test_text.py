from __future__ import annotations

from datetime import timedelta

from tests.graphs.orders import named, orders
from tests.waits import batch, purchase, questionnaire
from workflow_engine import Completion, Output
from workflow_engine.definitions import Retry, define_workflow
from workflow_engine.graphs import as_data, as_text, conditions_of
from workflow_engine.graphs.facts import facts_of


def test_groups_are_rows_and_the_stages_of_a_group_share_a_bracket() -> None:
    workflow = (
        define_workflow("report", name="Report", input=int)
        .pipe(named("fetch", timeout=timedelta(minutes=2)))
        .parallel(named("sum"), named("count", retry=Retry(max_attempts=1)))
        .build()
    )

    assert as_text(workflow).splitlines() == [
        "report: Report, version 1",
        "",
        "1 ─── fetch  Fetch  3 attempts (waits 2 s, 4 s) · timeout 2 min",
        "2 ─┬─ sum    Sum    3 attempts (waits 2 s, 4 s) · no timeout",
        "   └─ count  Count  no retry · no timeout",
    ]


def test_texts_of_several_lines_take_one() -> None:
    drawing = as_text(orders())

    assert "From cart to door" in drawing
    assert len(drawing.splitlines()) == 3 + 5


def test_a_stage_tells_its_queue_and_what_it_needs_and_waits_never_above_the_maximum() -> None:
    slow = Retry(max_attempts=9, initial=timedelta(minutes=6), maximum=timedelta(minutes=10))

    facts = facts_of(named("pack", queue="hands", dependencies=["end"], retry=slow))

    assert facts == ["9 attempts (waits 6 min, 10 min, …)", "no timeout", "queue hands", "needs end"]


def test_the_data_holds_every_stage_with_times_in_seconds_and_the_schemas() -> None:
    data = as_data(orders())

    assert [[stage["stage_id"] for stage in group["stages"]] for group in data["groups"]] == [
        ["end"],
        ["pay", "pack", "label"],
        ["ship"],
    ]
    assert data["groups"][0]["stages"][0]["timeout"] == 600
    assert data["groups"][0]["stages"][0]["retry"]["initial"] == 2
    assert (data["workflow_id"], data["input_schema"]) == ("orders", {"type": "integer"})


def test_a_stage_tells_its_condition_and_what_it_may_wait_for() -> None:
    first, second = purchase().groups[1].stages[0], batch(Completion.pending).groups[0].stages[0]

    assert facts_of(first)[2:] == [
        "only if weigh.amount > 100",
        "waits for the answer manager, 3 d",
        "waits for the answer board, 1 d, then by default",
    ]
    assert facts_of(second)[2:] == ["waits until a check finds it complete"]
    assert facts_of(questionnaire().groups[0].stages[0])[2:] == ["waits for the answer details"]
    assert "only if weigh.amount > 100 · waits for the answer manager, 3 d" in as_text(purchase())


def test_the_condition_of_a_plan_takes_one_line_whatever_it_compares_with() -> None:
    nasty = named("b", when=Output("a").text == "two\nlines\u2028and\x07 more")
    workflow = define_workflow("nasty", input=int).pipe(named("a")).pipe(nasty).build()

    assert conditions_of(workflow.plan()) == {"b": r"a.text == 'two\nlines\u2028and\x07 more'"}


def test_the_data_holds_conditions_waits_and_limits() -> None:
    data = as_data(purchase())

    stage = data["groups"][1]["stages"][0]
    assert (data["timeout"], data["groups"][1]["fail_fast"], stage["has_check"]) == (None, False, False)
    assert stage["when"] == "weigh.amount > 100"
    assert [wait["name"] for wait in stage["waits"]] == ["manager", "board"]
    assert stage["waits"][1]["schema"] == {"type": "boolean"}


def test_a_mapped_stage_tells_how_it_is_mapped() -> None:
    workflow = (
        define_workflow("imports", name="Imports", input=list[int])
        .map(named("import-line"), max_parallel=1500, on_item_error="collect", min_success=0.9)
        .map(named("check", retry=Retry(max_attempts=1)), on_item_error="skip", min_success=2000)
        .map(named("store"))
        .build()
    )

    drawn, data = as_text(workflow).splitlines()[2:], as_data(workflow)

    many = "× items, 1,500 at a time · failed items are collected · 90% must succeed"
    retry = "3 attempts (waits 2 s, 4 s) · no timeout"
    assert drawn == [
        f"1 ─×─ import-line  Import line  {many} · {retry}",
        "2 ─×─ check        Check        × items · failed items are skipped · 2,000 must succeed · "
        "no retry · no timeout",
        f"3 ─×─ store        Store        × items · a failed item fails it · {retry}",
    ]
    assert [group["stages"][0]["map"] for group in data["groups"]] == [
        {"max_parallel": 1500, "on_item_error": "collect", "min_success": 0.9},
        {"max_parallel": None, "on_item_error": "skip", "min_success": 2000},
        {"max_parallel": None, "on_item_error": "fail", "min_success": None},
    ]
    assert as_data(orders())["groups"][0]["stages"][0]["map"] is None
