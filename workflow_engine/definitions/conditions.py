"""``when=``: a declared condition on outputs of earlier stages. It is data, so the plan can show it and keep it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

    def is_in(self, values: Any) -> Condition:
        """The value is one of ``values``."""
        return self._compare("in", list(values))

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
        if not _is_plain(value):
            raise InvalidDefinition(
                f"{self!r} {op} {value!r}: compare with text, a number, a boolean or None (is_in: a list of these)."
            )
        return Condition({"op": op, "stage": self._stage, "path": list(self._path), "value": value})


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(item is None or isinstance(item, str | int | float | bool) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


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
