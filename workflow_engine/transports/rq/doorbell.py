"""The bell inside this process: who waits for it, and how often it rang."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workflow_engine.kernel.ports import Message


class Doorbell:
    """Counts rings, so that one before the wait is not missed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings = 0
        self._waiting = 0
        self._messages: list[Message] = []
        self._seen = threading.local()

    def ring(self, message: Message | None = None) -> None:
        with self._changed:
            self._rings += 1
            if message is not None:
                self._messages.append(message)
            self._changed.notify_all()

    def wait(self, seconds: float) -> list[Message]:
        """Wait until it rang since the last call in this thread; return the messages that came with rings."""
        with self._changed:
            seen = getattr(self._seen, "rings", 0)
            if self._rings == seen and seconds > 0:
                self._wait_for_ring(seen, seconds)
            self._seen.rings = self._rings
            messages, self._messages = self._messages, []
        return messages

    def _wait_for_ring(self, seen: int, seconds: float) -> None:
        self._waiting += 1
        # The listener waits for whoever waits.
        self._changed.notify_all()
        try:
            self._changed.wait_for(lambda: self._rings != seen, seconds)
        finally:
            self._waiting -= 1

    @property
    def has_waiter(self) -> bool:
        return self._waiting > 0

    def wait_for_waiter(self, seconds: float, unless: Callable[[], bool]) -> bool:
        """Wait until somebody waits for the bell; False if nobody does, or, at a ring, if ``unless`` is true."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting > 0 or unless(), seconds)
            return self._waiting > 0 and not unless()
