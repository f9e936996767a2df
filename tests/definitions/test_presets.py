from __future__ import annotations

from typing import Any

import pytest

from tests.workflows import Number
from workflow_engine.definitions import StageContext, Workflow, define_workflow, stage
from workflow_engine.definitions.presets import AIConfig, DebugConfig, EmptyConfig, FullConfig
from workflow_engine.errors import InvalidConfig


class SummariseConfig(AIConfig, DebugConfig):
    max_sentences: int = 5


@stage("summarise")
def summarise(ctx: StageContext[Number, SummariseConfig]) -> Number:
    return ctx.input


@stage("everything")
def everything(ctx: StageContext[Number, FullConfig]) -> Number:
    return ctx.input


@stage("nothing")
def nothing(ctx: StageContext[Number, EmptyConfig]) -> Number:
    return ctx.input


def workflow() -> Workflow[Number, Number]:
    return define_workflow("w", input=Number).pipe(summarise).pipe(everything).pipe(nothing).build()


def test_presets_merge_and_bring_their_defaults() -> None:
    ai = {"model": "gemini-2.5-flash", "temperature": 0.7, "max_tokens": None}
    debug = {"verbose": False, "dry_run": False}
    concurrency = {"concurrency": 5, "delay_ms": 0, "max_retries": 3}

    assert workflow().default_config() == {
        "summarise": {**ai, **debug, "max_sentences": 5},
        "everything": {**ai, **concurrency, "feature_flags": {}, **debug},
        "nothing": {},
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"max_tokens": 0},
        {"concurrency": 0},
        {"delay_ms": -1},
        {"max_retries": -1},
        {"feature_flags": {"fast": "perhaps"}},
        {"model": ""},
    ],
)
def test_a_value_out_of_range_is_refused_with_its_path(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig) as refused:
        workflow().validate_config({"everything": fields})

    assert refused.value.errors[0].path.startswith(f"everything.{next(iter(fields))}")
