"""``when=``: a declared condition on outputs of earlier stages. It is data, so the plan can show it and keep it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from workflow_engine.errors import InvalidDefinition

JsonObject = Mapping[str, Any]
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, among: value in among,
}


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition as data: ``{"op", "stage", "path", "value"}``, or ``{"op": "and" | "or" | "not", "of": […]}``."""

    data: JsonObject

    def __and__(self, other: Any) -> Condition:
        return Condition({"op": "and", "of": [self.data, condition_of(other).data]})

    def __or__(self, other: Any) -> Condition:
        return Condition({"op": "or", "of": [self.data, condition_of(other).data]})

    def __invert__(self) -> Condition:
        return Condition({"op": "not", "of": [self.data]})

    def __bool__(self) -> bool:
        raise InvalidDefinition(
            f"The condition {self} has no value while workflows are defined. Join conditions with & | ~, not with "
            "'and', 'or', 'not'."
        )

    def __str__(self) -> str:
        return condition_text(self.data)

    @property
    def stages(self) -> frozenset[str]:
        """Ids of the stages whose outputs it reads."""
        return condition_stages(self.data)


class Output:
    """A place in the output of an earlier stage, for ``when=``: ``Output(classify).kind == "invoice"``.

    Fields and keys are reached by ``.name`` or ``["name"]``, items of lists by ``[0]``. ``==``, ``!=``, ``<``, ``<=``,
    ``>``, ``>=`` and ``is_in`` make conditions; a place alone is true if its value is (``when=Output(scan).is_clean``).
    Conditions are joined by ``&``, ``|`` and ``~``. What is not there, also because its stage was skipped, is None.
    """

    def __init__(self, stage: Any, path: tuple[str | int, ...] = ()) -> None:
        self._stage = stage if isinstance(stage, str) else stage.id
        self._path = path

    def __getattr__(self, name: str) -> Output:
        if name.startswith("__"):
            raise AttributeError(name)
        return Output(self._stage, (*self._path, name))

    def __getitem__(self, key: str | int) -> Output:
        return Output(self._stage, (*self._path, key))

    def is_in(self, values: Iterable[Any]) -> Condition:
        """The value is one of ``values``."""
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise InvalidDefinition(f"{self!r} in {values!r}: is_in takes a list of values.")
        # A set has another order in each process, and the plan's hash must not.
        among = sorted(values, key=repr) if isinstance(values, set | frozenset) else list(values)
        if not among:
            raise InvalidDefinition(f"{self!r} in {among!r}: is_in takes at least one value, or it never holds.")
        return Condition({**self._at("in"), "value": [self._plain("in", value) for value in among]})

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: Any) -> Condition:
        return self._compare("<", value)

    def __le__(self, value: Any) -> Condition:
        return self._compare("<=", value)

    def __gt__(self, value: Any) -> Condition:
        return self._compare(">", value)

    def __ge__(self, value: Any) -> Condition:
        return self._compare(">=", value)

    def __and__(self, other: Any) -> Condition:
        joined: Condition = condition_of(self) & other
        return joined

    def __or__(self, other: Any) -> Condition:
        joined: Condition = condition_of(self) | other
        return joined

    def __invert__(self) -> Condition:
        return ~condition_of(self)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise InvalidDefinition(f"{self!r} has no value while workflows are defined. Join conditions with & | ~.")

    def __repr__(self) -> str:
        return f"Output({_place(self._stage, self._path)})"

    def _compare(self, op: str, value: Any) -> Condition:
        plain = self._plain(op, value)
        if plain is None and op not in ("==", "!="):
            raise InvalidDefinition(f"{self!r} {op} None never holds: None has no order. Use == or !=.")
        return Condition({**self._at(op), "value": plain})

    def _at(self, op: str) -> dict[str, Any]:
        return {"op": op, "stage": self._stage, "path": list(self._path)}

    def _plain(self, op: str, value: Any) -> Any:
        """Return the value as it stands in stored JSON. Raises ``InvalidDefinition``."""
        plain = value.value if isinstance(value, Enum) else value
        if not (plain is None or isinstance(plain, str | int | float | bool)):
            raise InvalidDefinition(
                f"{self!r} {op} {value!r}: compare with text, a number, a boolean or None (is_in: a list of these)."
            )
        if isinstance(plain, float) and not math.isfinite(plain):
            raise InvalidDefinition(f"{self!r} {op} {value!r}: JSON has no such number, so no output can have it.")
        return plain


def condition_of(value: Any) -> Condition:
    """Return the condition that ``value`` is or stands for. Raises ``InvalidDefinition``."""
    if isinstance(value, Condition):
        return value
    if isinstance(value, Output):
        return Condition({"op": "true", "stage": value._stage, "path": list(value._path), "value": None})
    raise InvalidDefinition(f"when= takes a condition such as Output(classify).kind == 'invoice', got {value!r}.")


def condition_text(data: JsonObject) -> str:
    """Return the condition in words that read like Python: ``classify.kind == 'invoice'``."""
    op = data["op"]
    if op == "not":
        return f"not ({condition_text(data['of'][0])})"
    if op in ("and", "or"):
        return f" {op} ".join(
            f"({condition_text(one)})" if one["op"] in ("and", "or") else condition_text(one) for one in data["of"]
        )
    place = _place(data["stage"], data["path"])
    return place if op == "true" else f"{place} {op} {data['value']!r}"


def _place(stage: str, path: Any) -> str:
    return stage + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def condition_stages(data: JsonObject) -> frozenset[str]:
    """Return the ids of the stages whose outputs the condition reads."""
    if "of" in data:
        return frozenset().union(*(condition_stages(one) for one in data["of"]))
    return frozenset((data["stage"],))


def condition_fields(data: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield ``(stage, field)`` for each top-level field of an output that the condition reads."""
    if "of" in data:
        for one in data["of"]:
            yield from condition_fields(one)
    elif data["path"] and isinstance(data["path"][0], str):
        yield data["stage"], data["path"][0]


def condition_holds(data: JsonObject, outputs: Mapping[str, Any]) -> bool:
    """Say whether the condition holds of ``outputs`` (stage id -> JSON); what is not there counts as None.

    Raises:
        TypeError: values of different kinds cannot be ordered; the text names the place, never the value.
    """
    op = data["op"]
    if op == "not":
        return not condition_holds(data["of"][0], outputs)
    if op == "and":
        return all(condition_holds(one, outputs) for one in data["of"])
    if op == "or":
        return any(condition_holds(one, outputs) for one in data["of"])
    value = _value(outputs.get(data["stage"]), data["path"])
    if op == "true":
        return bool(value)
    if value is None and op not in ("==", "!=", "in"):
        return False
    try:
        return bool(_COMPARISONS[op](value, data["value"]))
    except TypeError:
        kinds = f"{type(value).__name__} and {type(data['value']).__name__}"
        raise TypeError(f"{condition_text(data)}: {kinds} cannot be compared by {op}") from None


def _value(value: Any, path: Any) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value
