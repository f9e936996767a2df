"""The project's subscribers: its plugins, and the sinks that its settings name."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from django.utils.module_loading import import_string

from workflow_engine.definitions.plugins import Plugin, RunEvent, registered_plugins
from workflow_engine.errors import InvalidDefinition
from workflow_engine.kernel.subscribers import Subscriber

from .calls import TimedSink


class ProjectSubscribers:
    """Plugins as they are registered just now, and sinks by their dotted paths; the same tuple until that changes."""

    def __init__(self, *, plugins: list[str], sinks: list[str], timeout: float, tidy: Callable[[], None]) -> None:
        self._paths, self._sink_paths, self._timeout, self._tidy = plugins, sinks, timeout, tidy
        self._sinks: tuple[Subscriber, ...] | None = None
        # What was registered, and what was made of it: one value, so that threads never mix two states.
        self._state: tuple[tuple[Plugin, ...] | None, tuple[Subscriber, ...]] = (None, ())
        self._made: dict[Plugin, Subscriber] = {}

    def __call__(self) -> tuple[Subscriber, ...]:
        if self._sinks is None:
            for path in self._paths:
                # Importing it registers it.
                import_string(path)
            self._sinks = tuple(self._sink(path) for path in self._sink_paths)
        seen, known = self._state
        plugins = registered_plugins()
        if plugins is not seen:
            made = [self._made.setdefault(plugin, self._subscriber(plugin)) for plugin in plugins]
            # Of two of one name only the first is one; a system check says so.
            known = tuple({one.name: one for one in reversed((*made, *self._sinks))}.values())[::-1]
            self._state = (plugins, known)
        return known

    def _subscriber(self, plugin: Plugin) -> Subscriber:
        timeout = plugin.timeout or self._timeout
        sink = TimedSink(plugin.name, _call_of(plugin), timeout, self._tidy)
        return Subscriber(plugin.name, sink, types=plugin.types, workflows=plugin.workflows, timeout=timeout)

    def _sink(self, path: str) -> Subscriber:
        sink = TimedSink(path, _emit_of(path), self._timeout, self._tidy)
        return Subscriber(path, sink, timeout=self._timeout)


def _emit_of(path: str) -> Callable[[RunEvent], None]:
    @cache
    def emit() -> Callable[[RunEvent], None]:
        # Made for its first event: a sink that cannot be made just now is one that cannot be delivered to.
        found: Any = import_string(path)
        sink: Any = found() if inspect.isclass(found) else found
        if not callable(getattr(sink, "emit", None)):
            raise InvalidDefinition(f"EVENT_SINKS: {path!r} has no method emit(event).")
        return sink.emit  # type: ignore[no-any-return]

    return lambda event: emit()(event)


def _call_of(plugin: Plugin) -> Callable[[RunEvent], None]:
    @cache
    def target() -> Callable[..., Any]:
        # A class has one instance per process, made for its first event.
        made: Any = plugin.target() if inspect.isclass(plugin.target) else None
        return plugin.target if made is None else made.handle

    def call(event: RunEvent) -> None:
        result = target()(event)
        if inspect.iscoroutine(result):
            asyncio.run(result)

    return call
