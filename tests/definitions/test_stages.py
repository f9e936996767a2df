from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definitions import Retry, StageContext, Wait, stage
from workflow_engine.errors import InvalidDefinition


class Text(BaseModel):
    text: str


class Options(BaseModel):
    limit: int = 3


def test_a_stage_takes_its_types_from_the_annotations() -> None:
    @stage("count-words")
    def count(ctx: StageContext[Text, Options]) -> int:
        """Count words."""
        return len(ctx.input.text.split())

    assert (count.id, count.name, count.description) == ("count-words", "Count words", "Count words.")
    assert (count.signature.input.type, count.signature.config.type, count.signature.output.type) == (
        Text,
        Options,
        int,
    )
    assert count.key == "count_words"
    assert not count.is_async


def test_types_may_be_local_to_the_function_that_defines_the_stage() -> None:
    class Local(BaseModel):
        value: int

    @stage("local")
    def local(ctx: StageContext[Local]) -> Local:
        return ctx.input

    assert local.signature.output.type is Local


def test_an_async_body_is_known_as_such_and_none_means_no_input() -> None:
    @stage("wait")
    async def wait(ctx: StageContext[None]) -> list[int]:
        return [1]

    assert wait.is_async
    assert not wait.takes_input


def _missing_context(ctx) -> int:  # type: ignore[no-untyped-def]
    return 1


def _bare_context(ctx: StageContext) -> int:
    return 1


def _missing_return(ctx: StageContext[int]):  # type: ignore[no-untyped-def]
    return 1


def _two_arguments(ctx: StageContext[int], more: int) -> int:
    return more


def _not_json(ctx: StageContext[int]) -> StageContext[int]:
    return ctx


def _config_without_fields(ctx: StageContext[int, int]) -> int:
    return 1


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_plain_or_async_body_may_have_a_process_of_its_own(isolation: Any) -> None:
    @stage("plain", isolation=isolation)
    def plain(ctx: StageContext[None]) -> None:
        pass

    @stage("waits", isolation=isolation)
    async def waits(ctx: StageContext[None]) -> None:
        pass

    assert (plain.isolation, waits.isolation, waits.is_async) == (isolation, isolation, True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (_missing_context, "StageContext[In]"),
        (_bare_context, "StageContext[In]"),
        (_missing_return, "annotate what it returns"),
        (_two_arguments, "exactly one argument"),
        (_not_json, "pydantic cannot read and write"),
        (_config_without_fields, "must be a pydantic model or a dataclass"),
    ],
)
def test_a_wrong_body_is_refused_naming_the_stage_and_the_fix(body: Any, words: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        stage("some-stage")(body)

    assert "'some-stage'" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("id", ["", "Upper", "under_score", "a b", "-a", "a-", "a--b", "ä", None, 3, "x" * 101])
def test_an_id_that_is_not_lower_case_words_is_refused_with_an_example(id: Any) -> None:
    with pytest.raises(InvalidDefinition, match="such as 'extract-text'"):
        stage(id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retry": 3}, "retry must be a Retry"),
        ({"timeout": 5}, "timeout must be a timedelta"),
        ({"timeout": timedelta(0)}, "timeout must be a timedelta above 0"),
        ({"queue": ""}, "queue must be the name"),
        ({"dependencies": "a"}, "dependencies must be a list"),
        ({"isolation": "fork"}, "isolation must be 'thread' or 'process'"),
        ({"isolation": None}, "isolation must be 'thread' or 'process'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidDefinition, match=words):
        stage("some-stage", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"initial": timedelta(seconds=-1)},
        {"initial": 2},
        {"factor": 0.5},
        {"jitter": 2},
        {"jitter": -0.1},
        {"maximum": None},
        {"no_retry_on": "ValueError"},
        {"no_retry_on": (ValueError, 3)},
    ],
)
def test_a_policy_of_nonsense_is_refused_naming_the_field(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition, match=next(iter(options))):
        Retry(**options)


def test_a_default_answer_that_does_not_fit_is_refused_with_its_fields() -> None:
    class Decision(BaseModel):
        outcome: bool
        note: str

    with pytest.raises(
        InvalidDefinition, match=r"Wait 'manager': default .* type \(outcome: .*; note: Field required\)"
    ):
        Wait("manager", Decision, max_wait=timedelta(days=1), default={"outcome": "secret"})  # type: ignore[arg-type]
