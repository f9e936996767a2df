"""Types read from annotations, and what pydantic makes of them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from workflow_engine.errors import FieldError, InvalidDefinition, InvalidPayload, field_errors

from .context import StageContext

# More than any value that is stored may have; a value that contains itself has no end.
MOST_LEVELS = 100


@dataclass(frozen=True)
class DataType:
    """A type whose values survive JSON both ways; None stands for "no value"."""

    type: Any
    where: str

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self.type)
        except (PydanticUserError, TypeError) as error:
            raise InvalidDefinition(
                f"{self.where}: pydantic cannot read and write {self.type!r} as JSON. "
                f"Use a pydantic model, a dataclass or plain types. ({str(error).splitlines()[0]})"
            ) from error

    def read(self, data: Any) -> Any:
        """Return the value that stored JSON stands for. Raises pydantic's ``ValidationError``."""
        return None if self.type is None else self.adapter.validate_json(data)

    def write(self, value: Any) -> Any:
        """Return the value as JSON data, once checked. Raises pydantic's errors, or ``ValueError``."""
        if self.type is None:
            if value is not None:
                raise ValueError(f"must be None, got {type(value).__name__}")
            return None
        checked = self.adapter.validate_python(value)
        # Looked for in the Python value: pydantic's JSON has null in their place where the type is Any.
        if (lost := lost_in_json(self.adapter.dump_python(checked))) is not None:
            raise InvalidPayload(*lost)
        return self.adapter.dump_python(checked, mode="json", by_alias=True)

    def json_schema(self, mode: typing.Literal["validation", "serialization"] = "validation") -> dict[str, Any]:
        return {"type": "null"} if self.type is None else self.adapter.json_schema(mode=mode)

    def keys(self) -> frozenset[str] | None:
        """Return the keys of the JSON objects that its values become; None if that cannot be told, or they are none."""
        decorators = getattr(self.type, "__pydantic_decorators__", None)
        if decorators is not None and decorators.model_serializers:
            return None
        try:
            schema = self.json_schema("serialization")
        except PydanticUserError:
            return None
        if reference := schema.get("$ref"):
            schema = schema["$defs"][reference.rsplit("/", 1)[1]]
        if schema.get("type") != "object" or "properties" not in schema or schema.get("additionalProperties"):
            return None
        return frozenset(schema["properties"])


def lost_in_json(value: Any) -> tuple[str, str] | None:
    """Return path and problem of the first thing that pydantic's JSON would hide, None if there is none.

    Where the type is Any it has null in the place of a number that is none, and one key in that of two.
    """
    stack = [("", value, 1)]
    while stack:
        path, item, depth = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return path, "NaN and infinities are not JSON numbers"
        elif isinstance(item, Iterator):
            return path, "can be read only once; make a list of it"
        elif isinstance(item, dict | list | tuple | set | frozenset | deque) and depth < MOST_LEVELS:
            if isinstance(item, dict) and (problem := _lost_key(item)):
                return path, problem
            pairs = item.items() if isinstance(item, dict) else enumerate(item)
            stack += [(f"{path}.{key}" if path else str(key), inner, depth + 1) for key, inner in pairs]
    return None


def _lost_key(item: dict[Any, Any]) -> str | None:
    if all(isinstance(key, str) for key in item):
        return None
    if any(isinstance(key, float) and not math.isfinite(key) for key in item):
        return "has a key that is NaN or infinite"
    written = ANYTHING.dump_python(dict.fromkeys(item), mode="json")
    return "has two keys that are the same text in JSON" if len(written) < len(item) else None


# Made once: making one takes longer than using it.
ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True)
class ConfigType:
    """The type of a stage's config: a pydantic model or dataclass; None: the stage takes no config."""

    type: Any
    where: str

    def __post_init__(self) -> None:
        if self.type is not None and not self._is_model and not dataclasses.is_dataclass(self.type):
            raise InvalidDefinition(
                f"{self.where}: the config type {self.type!r} must be a pydantic model or a dataclass, "
                "so that each field can have a default."
            )

    @property
    def _is_model(self) -> bool:
        return isinstance(self.type, type) and issubclass(self.type, BaseModel)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.type)

    def defaults(self) -> dict[str, Any]:
        """Return the default of each top-level field that has one, as JSON values."""
        if self.type is None:
            return {}
        found = {}
        if self._is_model:
            for name, info in self.type.model_fields.items():
                value = info.get_default(call_default_factory=True, validated_data={})
                if value is not PydanticUndefined:
                    found[name] = value
        else:
            for item in dataclasses.fields(self.type):
                if item.default is not dataclasses.MISSING:
                    found[item.name] = item.default
                elif item.default_factory is not dataclasses.MISSING:
                    found[item.name] = item.default_factory()
        return {name: ANYTHING.dump_python(value, mode="json") for name, value in found.items()}

    def merge(
        self, given: Mapping[str, Any], prefix: str, *, over: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[FieldError]]:
        """Lay ``given`` over the defaults, field by field; return what to store and everything that is wrong.

        Args:
            over: what was stored before, which lies between the two; fields that are gone from the type are dropped.
        """
        unknown = [
            FieldError(f"{prefix}.{name}", f"no such field; known: {', '.join(sorted(self._names())) or 'none'}")
            for name in given
            if name not in self._names() and not self._open
        ]
        if self.type is None:
            return {}, unknown
        try:
            value = self.adapter.validate_python(
                {**self.defaults(), **self._kept(over or {}, given), **self._known(given)}
            )
        except ValidationError as error:
            return {}, unknown + field_errors(error, prefix)
        if unknown:
            return {}, unknown
        try:
            if (lost := lost_in_json(self.adapter.dump_python(value))) is not None:
                return {}, [FieldError(f"{prefix}.{lost[0]}", lost[1], "not_storable")]
            return self.adapter.dump_python(value, mode="json", by_alias=True), []
        except (ValueError, TypeError, RecursionError) as error:
            # Pydantic's errors of writing are ValueErrors.
            return {}, [FieldError(prefix, f"cannot be written as JSON ({error})"[:500], "not_storable")]

    def json_schema(self) -> dict[str, Any]:
        return {"type": "null"} if self.type is None else self.adapter.json_schema()

    def _known(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in self._names() or self._open}

    def _kept(self, stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of ``stored``, which goes by aliases, is not given anew by the field's other name."""
        names = {info.alias: name for name, info in self.type.model_fields.items()} if self._is_model else {}
        return {name: value for name, value in self._known(stored).items() if names.get(name) not in given}

    @property
    def _open(self) -> bool:
        return self._is_model and self.type.model_config.get("extra") == "allow"

    def _names(self) -> set[str]:
        if self.type is None:
            return set()
        if not self._is_model:
            return {item.name for item in dataclasses.fields(self.type)}
        fields = self.type.model_fields
        return set(fields) | {info.alias for info in fields.values() if info.alias}


def read_result(value: Any, function: Callable[..., Any], returns: Any) -> Any:
    """Return the JSON of a sub-step's result as the type that ``returns``, or the function's annotation, names.

    Raises pydantic's ``ValidationError``.
    """
    kind = _returned_type(function) if returns is None else returns
    return value if kind is None else TypeAdapter(kind).validate_json(json.dumps(value))


def _returned_type(function: Callable[..., Any]) -> Any:
    """Return the annotated type of what a function gives; None where there is none, or none that can be read."""
    try:
        kind = typing.get_type_hints(function).get("return")
    except Exception:
        # Only a hint: the function may be a lambda, a partial, or annotated with names that are local to its caller.
        return None
    return None if kind in (None, type(None), Any) else kind


@dataclass(frozen=True)
class Signature:
    """What a stage takes and gives."""

    input: DataType
    config: ConfigType
    output: DataType


def read_signature(stage_id: str, body: Callable[..., Any], local_names: Mapping[str, Any]) -> Signature:
    """Read the types of a stage from its body's annotations. Raises ``InvalidDefinition``."""
    where = f"Stage {stage_id!r}"
    example = "def body(ctx: StageContext[In, Cfg]) -> Out"
    parameters = list(inspect.signature(body).parameters.values())
    if len(parameters) != 1 or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise InvalidDefinition(f"{where}: the body takes exactly one argument, the context: {example}.")
    try:
        hints = typing.get_type_hints(body, localns=dict(local_names), include_extras=True)
    except Exception as error:
        raise InvalidDefinition(
            f"{where}: its annotations cannot be resolved ({error}). Import the types at module level, "
            "not only under TYPE_CHECKING."
        ) from error
    context, output = hints.get(parameters[0].name), hints.get("return", inspect.Parameter.empty)
    if typing.get_origin(context) is not StageContext:
        found = "nothing" if context is None else repr(context)
        raise InvalidDefinition(
            f"{where}: annotate the argument {parameters[0].name!r} with StageContext[In] or StageContext[In, Cfg], "
            f"found {found}: {example}."
        )
    if output is inspect.Parameter.empty:
        raise InvalidDefinition(f"{where}: annotate what it returns (-> None if nothing): {example}.")
    arguments = [None if item is type(None) else item for item in typing.get_args(context)]
    config = ConfigType(arguments[1] if len(arguments) > 1 else None, f"{where} (config)")
    signature = Signature(DataType(arguments[0], f"{where} (input)"), config, DataType(output, f"{where} (output)"))
    for part in (signature.input, signature.output):
        if part.type is not None:
            _ = part.adapter
    return signature
