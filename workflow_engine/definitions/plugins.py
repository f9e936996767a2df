"""What users write to hear of events: functions or classes that are called for each event they name, at least once."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, TypeVar

from workflow_engine.errors import DuplicatePlugin, InvalidDefinition
from workflow_engine.event_types import EVENT_TYPES

T = TypeVar("T", bound=Callable[..., Any])
MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened to a run, as plugins and sinks get it.

    ``id`` is the same at every delivery of the event, so whoever must not act twice remembers it. ``sequence`` counts
    from 1 per run, without gaps. ``is_replay``: it was a dead letter, and may come after later events of its run.
    ``attempt`` counts how often its delivery was tried, this time included.
    """

    id: str
    run_id: uuid.UUID
    workflow_id: str
    sequence: int
    generation: int
    type: str
    payload: Mapping[str, Any]
    causation_id: uuid.UUID
    occurred_at: datetime
    is_replay: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Plugin:
    """A function or class that hears of events.

    ``workflows`` None: of all. ``timeout`` in seconds; None: what the settings say.
    """

    name: str
    types: frozenset[str]
    target: Callable[..., Any] = field(repr=False)
    workflows: frozenset[str] | None = None
    timeout: float | None = None


_plugins: tuple[Plugin, ...] = ()


def plugin(
    *,
    on: Iterable[str],
    workflows: Iterable[str] | None = None,
    name: str | None = None,
    timeout: float | None = None,
) -> Callable[[T], T]:
    """Let the decorated function be called with each ``RunEvent`` whose type is in ``on``; a class needs ``handle``.

    Each plugin hears of a run's events in order and at least once, by itself: if it raises it is called again later, up
    to ``MAX_EVENT_TRIES``, and no other plugin is.

    Args:
        on: types of events, such as ``"run.completed"``; ``"run.*"`` for all of a kind, ``"*"`` for all.
        workflows: only runs of these, by id.
        name: stands for the plugin in the database; the dotted path if not given. Renamed, it is another plugin.
        timeout: seconds that one call may take; ``EVENT_TIMEOUT_SECONDS`` if not given.

    Raises:
        InvalidDefinition: the text names the plugin, the value and what would be right.
        DuplicatePlugin: another plugin has this name.
    """

    def enter(target: T) -> T:
        global _plugins
        known = name if name is not None else f"{target.__module__}.{target.__qualname__}"
        _check(known, target, timeout)
        new = Plugin(
            known,
            matching(on, known),
            target,
            None if workflows is None else frozenset(_strings(workflows, known, "workflows")),
            timeout,
        )
        if any(other.name == known and other.target is not target for other in _plugins):
            raise DuplicatePlugin(f"A plugin {known!r} is registered already: give one of the two another name=.")
        _plugins = (*(other for other in _plugins if other.name != known), new)
        return target

    return enter


def registered_plugins() -> tuple[Plugin, ...]:
    """Return every registered plugin, in the order of registration; the same tuple until one more is registered."""
    return _plugins


@contextmanager
def plugins_override(*, keep: bool = False) -> Iterator[None]:
    """Forget the plugins that are registered inside the block; ``keep`` those before it known inside. For tests."""
    global _plugins
    before = _plugins
    if not keep:
        _plugins = ()
    try:
        yield
    finally:
        _plugins = before


def matching(on: Iterable[str], who: str) -> frozenset[str]:
    """Return the types of events that are meant by ``on``. Raises ``InvalidDefinition``."""
    types: set[str] = set()
    for pattern in _strings(on, who, "on"):
        kind = pattern[:-1] if pattern == "*" or pattern.endswith(".*") else None
        found = {type_ for type_ in EVENT_TYPES if (type_ == pattern if kind is None else type_.startswith(kind))}
        if not found:
            close = get_close_matches(pattern, EVENT_TYPES, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else f"Types are: {', '.join(EVENT_TYPES)}."
            raise InvalidDefinition(f"{who}: on={pattern!r} is no type of event. {fix}")
        types |= found
    if not types:
        raise InvalidDefinition(f"{who}: on=[] names no event, so it would never be called.")
    return frozenset(types)


def _strings(values: Iterable[str], who: str, argument: str) -> list[str]:
    listed = [values] if isinstance(values, str) else list(values)
    for value in listed:
        if not isinstance(value, str):
            raise InvalidDefinition(f"{who}: {argument} takes names, got {value!r}.")
    return listed


def _check(name: str, target: Any, timeout: float | None) -> None:
    if not 0 < len(name) <= MOST_NAME:
        raise InvalidDefinition(f"The name of a plugin has 1 to {MOST_NAME} characters, got {len(name)}.")
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise InvalidDefinition(f"{name}: timeout is in seconds and above 0, got {timeout!r}.")
    if inspect.isclass(target):
        if not callable(getattr(target, "handle", None)):
            raise InvalidDefinition(f"{name}: a plugin class needs a method handle(self, event).")
    elif not callable(target):
        raise InvalidDefinition(f"{name}: a plugin is a function or a class, got {target!r}.")
