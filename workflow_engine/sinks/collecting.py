"""A sink that keeps what it gets, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workflow_engine.definitions.plugins import RunEvent


class CollectingEventSink:
    """Keeps events in the order in which they came; ``fails`` may raise for an event to refuse it."""

    def __init__(self, fails: Callable[[RunEvent], None] | None = None) -> None:
        self._fails, self._lock = fails, threading.Lock()
        self.events: list[RunEvent] = []

    def emit(self, event: RunEvent) -> None:
        if self._fails is not None:
            self._fails(event)
        with self._lock:
            self.events.append(event)

    @property
    def types(self) -> list[str]:
        """The types of what came, in order."""
        return [event.type for event in self.events]
