"""Values that once hung the engine, slipped past the gate, or raised what is no error of ours."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tests.values.corpus import deep, recursive
from tests.values.entries import ANY, ask
from workflow_engine import (
    annotate_run,
    answer_stage,
    cancel_run,
    cancel_runs,
    create_run,
    create_schedule,
    pause_queue,
    pause_run,
)
from workflow_engine.definitions import StageContext, define_workflow, stage
from workflow_engine.errors import InvalidConfig, InvalidInput, InvalidPayload
from workflow_engine.hosts.inline import InlineHost
from workflow_engine.kernel.commands import CreateWebhook
from workflow_engine.models import RunData, Schedule, WorkflowRun

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]
TOO_MANY_DIGITS = 10**5_000


@pytest.fixture(autouse=True)
def _known(known: Any, kernel: Any) -> None:
    known(ANY)


def refused(input: Any) -> str:
    with pytest.raises(InvalidInput) as refusal:
        create_run(ANY, input)
    assert not WorkflowRun.objects.exists()
    return str(refusal.value)


def test_a_value_that_contains_itself_is_refused_and_not_followed_for_ever() -> None:
    assert "cannot be written as JSON" in refused(recursive())


def test_what_can_be_read_only_once_is_refused() -> None:
    assert "can be read only once" in refused({"numbers": (number for number in [1])})


def test_a_number_that_is_none_is_found_in_a_deque() -> None:
    assert "numbers.1: NaN" in refused({"numbers": deque([1.0, float("nan")])})


def test_a_key_that_is_no_number_is_refused() -> None:
    assert "a: has a key that is NaN" in refused({"a": {float("nan"): 1}})


def test_two_keys_that_become_one_are_refused() -> None:
    assert "the same text in JSON" in refused({"a": {1: "one", "1": "another"}})


@pytest.mark.parametrize(
    "value",
    [recursive(), deep(2_000), object(), b"\xff", {"\udfff": 1}],
    ids=["recursive", "deep", "object", "bytes", "key"],
)
def test_config_that_cannot_be_written_is_refused_with_its_field(value: Any) -> None:
    with pytest.raises((InvalidConfig, InvalidPayload), match="ask"):
        create_run(ANY, config={"ask": {"any": value}})

    assert not WorkflowRun.objects.exists()


def test_config_loses_no_number_that_is_none() -> None:
    with pytest.raises(InvalidConfig, match=r"ask\.any\.0: NaN"):
        create_run(ANY, config={"ask": {"any": [float("nan")]}})


@pytest.mark.parametrize("actor", [TOO_MANY_DIGITS, deep(20_000)], ids=["digits", "deep"])
def test_an_actor_without_a_text_stops_nobody(actor: Any) -> None:
    run = create_run(ANY, actor=actor)

    assert RunData.objects.get(pk=run.pk).created_by == f"<{type(actor).__name__}>"


@pytest.mark.parametrize("value", [TOO_MANY_DIGITS, deep(20_000)], ids=["digits", "deep"])
def test_what_cannot_be_shown_is_refused_all_the_same(value: Any) -> None:
    run = create_run(ANY)

    for call in (
        lambda: annotate_run(run, {"a": 1}, idempotency_key=value),
        lambda: cancel_runs([], reason=value),
        lambda: pause_queue(value),
        lambda: create_run(ANY, priority=value),
    ):
        with pytest.raises(InvalidInput, match=f"<{type(value).__name__}>"):
            call()


@pytest.mark.parametrize("values", [None, "a", [("a", 1)], 7])
def test_annotations_that_are_no_mapping_are_refused(values: Any) -> None:
    with pytest.raises(InvalidInput, match="values: must map keys to values"):
        annotate_run(create_run(ANY), values)


def test_an_answer_with_keys_of_several_kinds_is_taken_once(host: InlineHost) -> None:
    run = create_run(ANY)
    host.drain(run.pk)
    data = {1: "one", "two": 2, None: 3}

    assert answer_stage(run, ask, data, idempotency_key="key")
    assert not answer_stage(run, ask, data, idempotency_key="key")


@pytest.mark.parametrize("data", [TOO_MANY_DIGITS, deep(2_000), recursive()], ids=["digits", "deep", "recursive"])
def test_an_answer_that_is_no_json_is_refused_under_a_used_key_too(host: InlineHost, data: Any) -> None:
    run = create_run(ANY)
    host.drain(run.pk)
    answer_stage(run, ask, "first", idempotency_key="key")

    with pytest.raises(InvalidPayload, match="cannot be written as JSON"):
        answer_stage(run, ask, data, idempotency_key="key")


@pytest.mark.parametrize("value", [TOO_MANY_DIGITS, deep(20_000), {"a": 1}], ids=["digits", "deep", "object"])
def test_a_reason_that_is_no_text_stops_nobody(value: Any) -> None:
    run = create_run(ANY)

    assert pause_run(run, reason=value)
    assert pause_queue("q", reason=value)
    assert cancel_run(run, reason=value)


@pytest.mark.parametrize(
    "value", [TOO_MANY_DIGITS, deep(20_000), "\ud83d", object()], ids=["digits", "deep", "half", "object"]
)
def test_a_body_may_say_anything_and_is_told_what_cannot_be_kept(value: Any, host: InlineHost, known: Any) -> None:
    @stage("say")
    def say(ctx: StageContext[Any]) -> None:
        ctx.log.info(value, field=value)
        ctx.progress(50, value, detail=value)
        for call in (
            lambda: ctx.progress(value),
            lambda: ctx.artifact("a", value),
            lambda: ctx.annotate("a", 1, actor=value),
            lambda: ctx.storage.save(value, 1),
        ):
            with pytest.raises((InvalidInput, InvalidPayload)):
                call()

    run = create_run(known(define_workflow("says").pipe(say).build()))

    host.drain(run.pk)

    run.refresh_from_db()
    assert run.status == "COMPLETED", run.error


@pytest.mark.parametrize("value", [TOO_MANY_DIGITS, deep(20_000)], ids=["digits", "deep"])
@pytest.mark.parametrize("field", ["name", "cron", "timezone"])
def test_a_schedule_refuses_what_cannot_be_shown(field: str, value: Any) -> None:
    fields = {"name": "s", "cron": "0 0 * * *", field: value}

    with pytest.raises(InvalidInput):
        create_schedule(fields.pop("name"), ANY, fields.pop("cron"), **fields)


@pytest.mark.parametrize("field", ["url", "description", "events", "workflows"])
def test_a_new_webhook_has_all_its_fields(field: str, kernel: Any) -> None:
    fields: Any = {"url": "https://example.com/", field: None}

    with pytest.raises(InvalidInput) as refusal:
        kernel.dispatch(CreateWebhook(**fields))

    assert [error.path for error in refusal.value.errors] == [field]


@pytest.mark.parametrize("value", [float("nan"), {"deep": [1, float("inf")]}, {1: "a", "1": "b"}], ids=repr)
def test_an_input_of_a_schedule_that_json_would_change_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"NaN|same|one key|JSON"):
        create_schedule("s", ANY, "0 0 * * *", input=value)
    assert not Schedule.objects.exists()
