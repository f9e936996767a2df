from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.workflows import Number, add_stage, chain, fan
from workflow_engine.definitions import StageContext, define_workflow, get_workflow, register, stage
from workflow_engine.definitions.registry import registered_workflows, registry_override
from workflow_engine.errors import (
    DuplicateWorkflow,
    InvalidConfig,
    InvalidDefinition,
    InvalidInput,
    StageNotFound,
    WorkflowNotFound,
)


class Nested(BaseModel):
    depth: int = 1


class Settings(BaseModel):
    plain: int = 3
    made: list[str] = Field(default_factory=lambda: ["a"])
    nested: Nested = Nested(depth=5)
    maybe: str | None = None


@dataclass
class Required:
    must: int
    may: int = 2
    many: list[int] = field(default_factory=list)


@stage("with-settings")
def with_settings(ctx: StageContext[Number, Settings]) -> Number:
    return ctx.input


@stage("with-required")
def with_required(ctx: StageContext[Number, Required]) -> Number:
    return ctx.input


@stage("without-config")
def without_config(ctx: StageContext[Number]) -> Number:
    return ctx.input


def configured() -> Any:
    stages = (with_settings, with_required, without_config)
    return define_workflow("configured", input=Number).pipe(stages[0]).pipe(stages[1]).pipe(stages[2]).build()


def test_sequential_and_parallel_stages_give_groups_ids_and_a_plan() -> None:
    workflow = fan(3)

    assert [group.stage_ids for group in workflow.groups] == [("first",), ("add-1", "add-2", "add-3"), ("total",)]
    assert workflow.stage_ids == ("first", "add-1", "add-2", "add-3", "total")
    assert (workflow.group_of("add-2"), workflow.stage_number("add-2")) == (2, 3)
    plan = workflow.plan()
    assert plan["version"] == "1"
    assert plan["fingerprint"] == workflow.fingerprint
    assert [[item["id"] for item in group["stages"]] for group in plan["groups"]] == [
        ["first"],
        ["add-1", "add-2", "add-3"],
        ["total"],
    ]


def test_the_fingerprint_changes_with_the_shape_and_only_then() -> None:
    assert chain(3).fingerprint == chain(3).fingerprint
    assert chain(3).fingerprint != chain(4).fingerprint


def test_an_unknown_stage_is_reported_with_those_there_are() -> None:
    with pytest.raises(StageNotFound, match="add-1"):
        chain(1).get_stage("nope")


def test_dependencies_must_stand_in_earlier_groups() -> None:
    needs = add_stage("needs", dependencies=["add-1"])
    sibling = add_stage("sibling")
    builder = define_workflow("w", input=Number)

    assert builder.pipe(add_stage("add-1")).pipe(needs).build().stage_ids == ("add-1", "needs")
    with pytest.raises(InvalidDefinition, match="'needs' depends on 'add-1', which no earlier group has"):
        builder.pipe(needs)
    with pytest.raises(InvalidDefinition, match="in the same group"):
        builder.parallel(sibling, add_stage("add-1"), needs)


def test_duplicate_ids_empty_groups_and_empty_workflows_are_refused() -> None:
    builder = define_workflow("w", input=Number)

    with pytest.raises(InvalidDefinition, match="'add-1' is there twice"):
        builder.pipe(add_stage("add-1")).pipe(add_stage("add-1"))
    with pytest.raises(InvalidDefinition, match="'add-1' is there twice"):
        builder.parallel(add_stage("add-1"), add_stage("add-1"))
    with pytest.raises(InvalidDefinition, match="at least one stage"):
        builder.parallel()
    with pytest.raises(InvalidDefinition, match="has no stages"):
        builder.build()
    with pytest.raises(InvalidDefinition, match="is not a stage"):
        builder.pipe(len)  # type: ignore[arg-type]


def test_a_built_workflow_never_changes() -> None:
    builder = define_workflow("w", input=Number).pipe(add_stage("add-1"))
    built = builder.build()

    builder.pipe(add_stage("add-2"))

    assert built.stage_ids == ("add-1",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.id = "other"  # type: ignore[misc]


def test_config_defaults_are_collected_per_stage() -> None:
    assert configured().default_config() == {
        "with-settings": {"plain": 3, "made": ["a"], "nested": {"depth": 5}, "maybe": None},
        "with-required": {"may": 2, "many": []},
    }
    assert define_workflow("w", input=Number).pipe(without_config).build().default_config() == {}


def test_given_config_is_laid_over_the_defaults_field_by_field() -> None:
    merged = configured().validate_config({"with-settings": {"plain": 9}, "with-required": {"must": 1}})

    assert merged["with-settings"] == {"plain": 9, "made": ["a"], "nested": {"depth": 5}, "maybe": None}
    assert merged["with-required"] == {"must": 1, "may": 2, "many": []}


def test_every_error_of_every_stage_is_reported_with_its_path() -> None:
    config = {
        "with-settings": {"plain": "x", "nested": {"depth": "y"}, "typo": 1},
        "with-required": {},
        "unknown": {},
        "without-config": {"a": 1},
    }

    with pytest.raises(InvalidConfig) as refused:
        configured().validate_config(config)

    assert {error.path for error in refused.value.errors} == {
        "with-settings.plain",
        "with-settings.nested.depth",
        "with-settings.typo",
        "with-required.must",
        "unknown",
        "without-config.a",
    }


@pytest.mark.parametrize("config", [[], "x", 3, {"with-settings": 3}])
def test_config_that_is_no_mapping_is_refused(config: Any) -> None:
    with pytest.raises(InvalidConfig, match="must"):
        configured().validate_config(config)


def test_input_errors_name_fields_and_never_repeat_values() -> None:
    with pytest.raises(InvalidInput) as refused:
        chain(1).validate_input({"value": "hunter2"})

    assert refused.value.errors[0].path == "value"
    assert "hunter2" not in str(refused.value)


def test_schemas_describe_input_config_and_output() -> None:
    workflow = fan(2)

    assert workflow.input_schema()["required"] == ["value"]
    assert set(workflow.config_schema()) == {"first", "add-1", "add-2"}
    assert workflow.output_schema()["title"] == "Number"


def test_a_second_workflow_of_one_id_is_refused() -> None:
    with registry_override():
        first = register(chain(1))

        assert register(first) is first
        with pytest.raises(DuplicateWorkflow, match="'chain'"):
            register(chain(2))
        assert registered_workflows() == [first]


def test_registering_something_unbuilt_names_the_fix() -> None:
    with pytest.raises(InvalidDefinition, match=r"\.build\(\)"):
        register(define_workflow("w", input=Number).pipe(add_stage("a")))  # type: ignore[arg-type]


def test_an_unknown_workflow_is_reported_with_those_there_are() -> None:
    with registry_override(chain(1)), pytest.raises(WorkflowNotFound, match="Registered: 'chain'"):
        get_workflow("nope")
