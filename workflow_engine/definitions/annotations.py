"""Typed keys of annotations: facts about runs that many projects record, under the same names and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from workflow_engine.errors import FieldError, InvalidInput, field_errors, shown

Value = TypeVar("Value")
MAX_KEY_LENGTH = 200


@dataclass(frozen=True)
class AnnotationKey(Generic[Value]):
    """A key whose values have one type. Names are lower-case and dotted; give your own a prefix."""

    name: str
    type: Any
    description: str = ""

    def __str__(self) -> str:
        return self.name

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.type)

    def check(self, value: Any) -> Any:
        """Return the value as JSON. Raises ``InvalidInput``, paths start with the key; values are never repeated."""
        try:
            return self.adapter.dump_python(self.adapter.validate_python(value), mode="json")
        except ValidationError as error:
            raise InvalidInput("an annotation", field_errors(error, self.name)) from error


# Facts by key: text and ``AnnotationKey``, also mixed, which a type of keys would not let a type checker infer.
Annotations = Mapping[Any, Any]


def read_annotation(key: Any, value: Any) -> tuple[str, Any]:
    """Return the name of a key and its value as JSON. Raises ``InvalidInput``."""
    if isinstance(key, AnnotationKey):
        return key.name, None if value is None else key.check(value)
    if isinstance(key, str):
        return key, value
    raise InvalidInput(
        "an annotation", [FieldError("key", f"must be text or an AnnotationKey, got {shown(key)}"[:300])]
    )


def read_annotations(values: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[FieldError]]:
    """Return facts by the names of their keys, and everything that is wrong with those of typed keys."""
    found: dict[Any, Any] = {}
    problems: list[FieldError] = []
    for key, value in values.items():
        if not isinstance(key, AnnotationKey):
            found[key] = value
            continue
        try:
            name, checked = read_annotation(key, value)
            found[name] = checked
        except InvalidInput as error:
            problems += error.errors
    return found, problems


class Trigger:
    """Why a run exists."""

    SOURCE = AnnotationKey[str]("trigger.source", str, "what started it: a user, a schedule, a webhook")
    PARENT_RUN_ID = AnnotationKey[str]("trigger.parent_run_id", str, "the run that started it")
    REASON = AnnotationKey[str]("trigger.reason", str)
    ACTOR_KIND = AnnotationKey[str]("trigger.actor.kind", str, "user, system, model")
    ACTOR_ID = AnnotationKey[str]("trigger.actor.id", str)


class Decision:
    """What was decided, and how."""

    OUTCOME = AnnotationKey[str]("decision.outcome", str)
    RATIONALE = AnnotationKey[str]("decision.rationale", str)
    CONFIDENCE = AnnotationKey[float]("decision.confidence", float, "0 to 1")
    ALTERNATIVES = AnnotationKey["list[str]"]("decision.alternatives", list[str])
    USED_FALLBACK = AnnotationKey[bool]("decision.used_fallback", bool)


class Approval:
    """Who has approved."""

    APPROVERS = AnnotationKey["list[str]"]("approval.approvers", list[str], "always a list")
    TIMESTAMP = AnnotationKey[str]("approval.timestamp", str, "ISO 8601")
    POLICY_VERSION = AnnotationKey[str]("approval.policy.version", str)


class Revision:
    """Of which earlier run this one is a revision."""

    PREVIOUS_RUN_ID = AnnotationKey[str]("revision.previous_run_id", str)
    REASON = AnnotationKey[str]("revision.reason", str)
