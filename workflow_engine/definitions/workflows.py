"""Workflows: frozen plans of work, as ``define_workflow`` makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic

from pydantic import ValidationError
from typing_extensions import TypeVar

from workflow_engine.errors import (
    FieldError,
    InvalidConfig,
    InvalidInput,
    StageNotFound,
    field_errors,
)

from .context import In, Out
from .items import ItemError, ItemMap
from .limits import Limit
from .stages import Stage
from .types import DataType

Out2 = TypeVar("Out2")
AnyStage = Stage[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Stages that may run at the same time. ``number`` counts from 1."""

    number: int
    stages: tuple[AnyStage, ...]
    # The first stage that fails for good cancels its siblings.
    fail_fast: bool = False
    # Its one stage runs once for every item of a sequence.
    map: ItemMap | None = None

    @property
    def stage_ids(self) -> tuple[str, ...]:
        return tuple(stage.id for stage in self.stages)


@dataclass(frozen=True, eq=False)
class Workflow(Generic[In, Out]):
    """A frozen plan of work. Made by ``define_workflow(...)….build()``."""

    id: str
    name: str
    description: str
    version: str
    input: DataType = field(repr=False)
    groups: tuple[Group, ...] = field(repr=False)
    # How long a run may take from its start.
    timeout: timedelta | None = None
    concurrency: Limit | None = None
    # Stages that the plan no longer has, but that old runs may still need.
    retired: tuple[AnyStage, ...] = ()

    @cached_property
    def _by_id(self) -> dict[str, AnyStage]:
        return {stage.id: stage for stage in (*self, *self.retired)}

    def __iter__(self) -> Iterator[AnyStage]:
        return (stage for group in self.groups for stage in group.stages)

    @property
    def stage_ids(self) -> tuple[str, ...]:
        return tuple(stage.id for stage in self)

    @cached_property
    def loop_stages(self) -> tuple[str, ...]:
        """Stages whose bodies run on an event loop."""
        return tuple(stage.id for stage in self._by_id.values() if stage.runs_on_loop)

    def has_stage(self, stage_id: str) -> bool:
        """Whether this code can execute the stage; one that is retired counts too."""
        return stage_id in self._by_id

    def get_stage(self, stage_id: str) -> AnyStage:
        """Return the stage, also one that is retired. Raises ``StageNotFound``, naming the stages there are."""
        try:
            return self._by_id[stage_id]
        except KeyError:
            raise StageNotFound(self.id, stage_id, self.stage_ids) from None

    def group_of(self, stage_id: str) -> int:
        """Return the number of the stage's group, from 1. Raises ``StageNotFound``."""
        for group in self.groups:
            if stage_id in group.stage_ids:
                return group.number
        raise StageNotFound(self.id, stage_id, self.stage_ids)

    def map_of(self, stage_id: str) -> ItemMap | None:
        """Return how the stage is mapped; None: it is not, or is not in the plan any more."""
        return next((group.map for group in self.groups if stage_id in group.stage_ids), None)

    def output_type(self, stage_id: str) -> DataType:
        """Return the type of what the stage gives to others: if it is mapped, a list. Raises ``StageNotFound``."""
        stage, mapped = self.get_stage(stage_id), self.map_of(stage_id)
        if mapped is None:
            return stage.signature.output
        if stage_id not in self._lists:
            item = stage.signature.output.type
            either = item | ItemError if mapped.on_item_error == "collect" else item
            self._lists[stage_id] = DataType(list[either], f"Stage {stage_id!r} (outputs of its items)")  # type: ignore[valid-type]
        return self._lists[stage_id]

    @cached_property
    def _lists(self) -> dict[str, DataType]:
        return {}

    def stage_number(self, stage_id: str) -> int:
        """Return the stage's position in the workflow, from 1. Raises ``StageNotFound``."""
        self.group_of(stage_id)
        return self.stage_ids.index(stage_id) + 1

    def plan(self) -> dict[str, Any]:
        """Return what a run stores, so that it can go on when the code has changed.

        ``{"version": "1", "fingerprint": "…", "groups": [{"stages": [{"id": "…", "queue": "…"}]}]}``, with
        ``"fail_fast": true`` in a group, ``"when": {condition}``, ``"waits": [names]`` and ``"map": {…}`` in a stage
        and ``"timeout": seconds`` where there is such.
        """
        plan: dict[str, Any] = {"version": self.version, "fingerprint": self.fingerprint, "groups": []}
        for group in self.groups:
            item: dict[str, Any] = {"stages": [_planned(stage, group) for stage in group.stages]}
            if group.fail_fast:
                item["fail_fast"] = True
            plan["groups"].append(item)
        if self.timeout is not None:
            plan["timeout"] = self.timeout.total_seconds()
        return plan

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the groups, the stage ids and the schemas: changes when runs could notice."""
        shape: dict[str, Any] = {
            "input": self.input_schema(),
            "groups": [[self._shape(stage) for stage in group.stages] for group in self.groups],
        }
        if changes := [
            [group.fail_fast, [_planned(stage, group) for stage in group.stages]]
            for group in self.groups
            if group.fail_fast or group.map or any(stage.when is not None or stage.waits for stage in group.stages)
        ]:
            shape["also"] = changes
        text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @staticmethod
    def _shape(stage: AnyStage) -> list[Any]:
        signature = stage.signature
        return [
            stage.id,
            signature.input.json_schema(),
            signature.config.json_schema(),
            signature.output.json_schema("serialization"),
        ]

    def input_schema(self) -> dict[str, Any]:
        return self.input.json_schema()

    def config_schema(self) -> dict[str, dict[str, Any]]:
        """Return the JSON Schema of each stage's config, for the stages that take one."""
        return {
            stage.id: stage.signature.config.json_schema() for stage in self if stage.signature.config.type is not None
        }

    def output_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the run's output: the last group's, a mapping if it has several stages."""
        last = self.groups[-1].stages
        schemas = {stage.key: self.output_type(stage.id).json_schema("serialization") for stage in last}
        if len(last) == 1:
            return schemas[last[0].key]
        return {"type": "object", "properties": schemas, "required": list(schemas)}

    def default_config(self) -> dict[str, dict[str, Any]]:
        """Return the defaults per stage, for the stages that take a config."""
        return {
            stage.id: stage.signature.config.defaults() for stage in self if stage.signature.config.type is not None
        }

    def validate_input(self, value: Any) -> Any:
        """Return ``value`` as the input type makes it. Raises ``InvalidInput`` with every error."""
        if self.input.type is None:
            if value is not None:
                raise InvalidInput(f"workflow {self.id!r}", [FieldError("", "it takes no input; pass None")])
            return None
        try:
            return self.input.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidInput(f"workflow {self.id!r}", field_errors(error)) from error

    def validate_config(self, config: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
        """Merge ``config`` (stage id -> fields) over the defaults and return what a run stores.

        Raises:
            InvalidConfig: with every error of every stage; unknown stages and unknown fields are errors.
        """
        given: Mapping[str, Any] = {} if config is None else config
        if not isinstance(given, Mapping):
            problem = FieldError("", f"must map stage ids to config, got {type(given).__name__}")
            raise InvalidConfig(f"workflow {self.id!r}", [problem])
        errors = [
            FieldError(str(stage_id), f"no such stage; known: {', '.join(self.stage_ids)}")
            for stage_id in given
            if stage_id not in self._by_id
        ]
        merged: dict[str, dict[str, Any]] = {}
        for stage in self:
            fields = given.get(stage.id, {})
            if not isinstance(fields, Mapping):
                errors.append(FieldError(stage.id, f"must be an object, got {type(fields).__name__}"))
                continue
            value, problems = stage.signature.config.merge(fields, stage.id)
            errors += problems
            if stage.signature.config.type is not None:
                merged[stage.id] = value
        if errors:
            raise InvalidConfig(f"workflow {self.id!r}", errors)
        return merged


def _planned(stage: AnyStage, group: Group) -> dict[str, Any]:
    item: dict[str, Any] = {"id": stage.id, "queue": stage.queue}
    if stage.when is not None:
        item["when"] = stage.when.data
    if stage.waits:
        item["waits"] = [wait.name for wait in stage.waits]
    if group.map is not None:
        item["map"] = group.map.as_json()
    return item
