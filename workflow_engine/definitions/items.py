"""Maps: one stage run once for every item of a sequence, and what it has given for them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from workflow_engine.errors import InvalidDefinition

from .context import Out

OnItemError = Literal["fail", "collect", "skip"]


class ItemError(BaseModel):
    """Stands for an item that has failed, in the results of a map with ``on_item_error="collect"``.

    As JSON: ``{"kind": "item_error", "item": 3, "code": "STAGE_FAILED", "class": "ValueError", "message": "…",
    "attempts": 3}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    kind: Literal["item_error"] = "item_error"
    # Index of the item, from 0.
    item: int
    code: str
    # The exception's class; empty where no code of yours raised.
    error_class: str = Field(default="", alias="class")
    message: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ItemMap:
    """How a group maps its stage: over what, how many at a time, and what a failed item means.

    ``over`` None: the group's input is the sequence. ``max_parallel`` None: the setting ``MAX_PARALLEL``.
    ``min_success``: a count, or a share of the items from 0.0 to 1.0.
    """

    over: Callable[[Any], Any] | None
    max_parallel: int | None
    on_item_error: OnItemError
    min_success: int | float | None

    def as_json(self) -> dict[str, Any]:
        """Return what the plan keeps; what is not set is left out."""
        found = {"max_parallel": self.max_parallel, "min_success": self.min_success}
        return {
            "on_item_error": self.on_item_error,
            **{key: value for key, value in found.items() if value is not None},
        }


def item_map(where: str, over: Any, max_parallel: Any, on_item_error: Any, min_success: Any) -> ItemMap:
    """Return the map once its arguments are checked. Raises ``InvalidDefinition`` naming argument, value and fix."""
    if over is not None and (not callable(over) or inspect.iscoroutinefunction(over)):
        raise InvalidDefinition(
            f"{where}: over must be a plain function that takes the group's input and returns a list, got {over!r}."
        )
    if max_parallel is not None and not (_is_int(max_parallel) and max_parallel >= 1):
        raise InvalidDefinition(f"{where}: max_parallel must be a whole number of 1 or more, got {max_parallel!r}.")
    if on_item_error not in get_args(OnItemError):
        known = ", ".join(map(repr, get_args(OnItemError)))
        raise InvalidDefinition(f"{where}: on_item_error must be one of {known}, got {on_item_error!r}.")
    if min_success is not None:
        _check_min_success(where, min_success, on_item_error)
    return ItemMap(over, max_parallel, on_item_error, min_success)


def _check_min_success(where: str, value: Any, on_item_error: str) -> None:
    is_count = _is_int(value) and value >= 0
    is_share = isinstance(value, float) and 0.0 <= value <= 1.0
    if not is_count and not is_share:
        raise InvalidDefinition(
            f"{where}: min_success must be a count (900) or a share from 0.0 to 1.0 (0.9), got {value!r}."
        )
    if on_item_error == "fail":
        raise InvalidDefinition(
            f"{where}: min_success has no use with on_item_error='fail', where every item must succeed. "
            "Use 'collect' or 'skip'."
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def enough(min_success: int | float | None, total: int) -> int:
    """Return how many of ``total`` items must succeed: a share is rounded up."""
    if min_success is None:
        return 0
    return min_success if isinstance(min_success, int) else -int(-min_success * total // 1)


Page = Sequence["tuple[int, Callable[[], Out], ItemError | None]"]


class Items(Generic[Out]):
    """What a map has given, in item order: read page by page as it is iterated, never all at once.

    Iterating yields outputs, and with ``on_item_error="collect"`` an ``ItemError`` for each item that failed; with
    ``"skip"`` those are left out. In ``async def`` bodies: ``async for``.
    """

    def __init__(
        self,
        total: int,
        failed: int,
        on_item_error: OnItemError,
        pages: Callable[[], Iterator[Page[Out]]],
        inputs: Callable[[Sequence[int]], Mapping[int, Any]] = lambda indexes: {},
    ) -> None:
        """``inputs``: says what the items of these indexes were."""
        self.total, self.failed, self.on_item_error = total, failed, on_item_error
        self._pages, self._inputs = pages, inputs

    def __len__(self) -> int:
        """How many it yields."""
        return self.total - self.failed if self.on_item_error == "skip" else self.total

    def __iter__(self) -> Iterator[Out | ItemError]:
        for page in self._pages():
            yield from self._shown(page)

    async def __aiter__(self) -> AsyncIterator[Out | ItemError]:
        from .context import in_thread

        pages = self._pages()
        while (page := await in_thread(_next_page, pages)) is not None:
            for value in await in_thread(list, self._shown(page)):
                yield value

    def outputs(self) -> Iterator[Out]:
        """Yield the outputs of the items that have succeeded."""
        for page in self._pages():
            yield from (read() for _, read, error in page if error is None)

    def errors(self) -> Iterator[ItemError]:
        """Yield why items have failed; also where they are skipped."""
        for page in self._pages():
            yield from (error for _, _, error in page if error is not None)

    def failures(self) -> Iterator[tuple[Any, ItemError]]:
        """Yield what each failed item was, and why it failed; also where they are skipped."""
        for page in self._pages():
            errors = {index: error for index, _, error in page if error is not None}
            inputs = self._inputs(list(errors)) if errors else {}
            yield from ((inputs.get(index), error) for index, error in errors.items())

    def _shown(self, page: Page[Out]) -> Iterator[Out | ItemError]:
        for _, read, error in page:
            if error is None:
                yield read()
            elif self.on_item_error == "collect":
                yield error


def _next_page(pages: Iterator[Page[Out]]) -> Page[Out] | None:
    return next(pages, None)
