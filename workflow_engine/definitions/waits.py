"""What a stage can wait for: completion checks of work done elsewhere, and answers of people and systems."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal

from pydantic import ValidationError
from typing_extensions import TypeVar

from workflow_engine.errors import InvalidDefinition, field_errors

from .context import Out
from .identifiers import check_id
from .types import DataType

Answer = TypeVar("Answer", default=Any)
CHECK_TIMEOUT = timedelta(minutes=1)


class NoDefault:
    """There is no default answer: a wait that is over fails its stage."""

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT = NoDefault()


@dataclass(frozen=True, slots=True)
class Completion(Generic[Out]):
    """What a completion check found. Made by ``ready``, ``pending`` or ``failed``."""

    kind: Literal["ready", "pending", "failed"]
    output: Any = None
    next_check_in: timedelta | None = None
    reason: str = ""

    @classmethod
    def ready(cls, output: Out) -> Completion[Out]:
        """The work is done: the stage completes with ``output``."""
        return cls("ready", output=output)

    @classmethod
    def pending(cls, next_check_in: timedelta | None = None) -> Completion[Any]:
        """Not yet: check again after ``next_check_in``, or after the stage's interval."""
        if next_check_in is not None and not (isinstance(next_check_in, timedelta) and next_check_in >= timedelta(0)):
            raise ValueError(f"Completion.pending takes a timedelta of 0 or more, got {next_check_in!r}")
        return cls("pending", next_check_in=next_check_in)

    @classmethod
    def failed(cls, reason: str) -> Completion[Any]:
        """The work has failed for good, and so does the stage. Raise instead if trying again may help."""
        return cls("failed", reason=str(reason).strip() or "the completion check gave no reason")


@dataclass(frozen=True, eq=False)
class Check:
    """A stage's completion check: ``(ctx, state) -> Completion``, plain or ``async``."""

    body: Callable[[Any, Any], Any]
    # The type of what the stage is suspended with; Any if the function does not say.
    state: DataType
    timeout: timedelta = CHECK_TIMEOUT

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.body)


def read_check(stage_id: str, body: Callable[[Any, Any], Any], timeout: timedelta, local_names: Any) -> Check:
    """Read a completion check from its function. Raises ``InvalidDefinition``."""
    where = f"Stage {stage_id!r} (completion check)"
    example = "def check(ctx: StageContext[In, Cfg], state: State) -> Completion[Out]"
    if not isinstance(timeout, timedelta) or timeout <= timedelta(0):
        raise InvalidDefinition(f"{where}: timeout must be a timedelta above 0, got {timeout!r}.")
    try:
        parameters = list(inspect.signature(body).parameters.values())
    except (TypeError, ValueError):
        raise InvalidDefinition(f"{where}: {body!r} is not a function: {example}.") from None
    if len(parameters) != 2:
        raise InvalidDefinition(f"{where}: it takes exactly two arguments, the context and the state: {example}.")
    try:
        hints = typing.get_type_hints(body, localns=dict(local_names), include_extras=True)
    except Exception as error:
        raise InvalidDefinition(f"{where}: its annotations cannot be resolved ({error}): {example}.") from error
    found = hints.get("return")
    if found is not Completion and typing.get_origin(found) is not Completion:
        raise InvalidDefinition(f"{where}: annotate that it returns Completion[Out], found {found!r}: {example}.")
    state = DataType(hints.get(parameters[1].name, Any), f"{where} (state)")
    if state.type is not None:
        _ = state.adapter
    return Check(body, state, timeout)


@dataclass(frozen=True, eq=False)
class Wait(Generic[Answer]):
    """A question that a stage waits to have answered: ``MANAGER = Wait("manager", Decision, max_wait=…)``.

    Args:
        name: lower-case words joined by ``-``; unique in its stage.
        type: of the answer, anything that survives JSON through pydantic. Answers that do not fit are refused.
        max_wait: time for the answer, from the moment at which the stage begins to wait; None: no limit.
        default: the answer once ``max_wait`` is over; without one the stage fails then (code ``WAIT_EXPIRED``).

    Raises:
        InvalidDefinition: an argument is wrong; the text names the wait, the value and the fix.
    """

    name: str
    type: type[Answer] | Any
    max_wait: timedelta | None = None
    default: Answer | NoDefault = NO_DEFAULT
    description: str = ""
    data: DataType = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_id("Wait", self.name)
        where = f"Wait {self.name!r}"
        if self.max_wait is not None and not (isinstance(self.max_wait, timedelta) and self.max_wait > timedelta(0)):
            raise InvalidDefinition(f"{where}: max_wait must be a timedelta above 0, got {self.max_wait!r}.")
        kind = None if self.type is type(None) else self.type
        object.__setattr__(self, "data", DataType(kind, f"{where} (answer)"))
        if kind is not None:
            _ = self.data.adapter
        if not self.has_default:
            return
        if self.max_wait is None:
            raise InvalidDefinition(f"{where}: a default answer needs max_wait, after which it is given.")
        try:
            self.data.write(self.default)
        except ValidationError as error:
            problem = "; ".join(map(str, field_errors(error)))
            raise InvalidDefinition(f"{where}: default does not fit the answer's type ({problem}).") from error
        except ValueError as error:
            raise InvalidDefinition(f"{where}: default does not fit the answer's type ({error}).") from error

    @property
    def has_default(self) -> bool:
        return not isinstance(self.default, NoDefault)

    def as_json(self) -> Mapping[str, Any]:
        """Return what is to be known of the wait beforehand, its answer's JSON Schema included."""
        return {
            "name": self.name,
            "description": self.description,
            "schema": self.data.json_schema(),
            "max_wait_seconds": None if self.max_wait is None else self.max_wait.total_seconds(),
            "has_default": self.has_default,
        }
