"""Who may change runs just now, of the threads of one worker that take and finish."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Taking and finishing touch the same runs: one at a time is quicker than leaving out what the other holds.

    Items of maps have a turn of their own, since dozens of them start and end together, and short runs wait for none of
    it. ``others`` and ``items`` are held by whoever finishes; whoever takes has ``taking``, and one of the two.
    """

    def __init__(self) -> None:
        self.others, self.items = threading.Lock(), threading.Lock()
        self._taking = threading.Lock()
        self._mine: threading.Lock | None = None

    @contextmanager
    def taking(self, *, wait: bool = True) -> Iterator[bool]:
        """Let one thread take more, in the turn of others unless it switches; False: another does, and ``wait`` was
        False."""
        if not self._taking.acquire(blocking=wait):
            yield False
            return
        try:
            self.switch(items=False)
            yield True
        finally:
            self._leave()
            self._taking.release()

    def switch(self, *, items: bool) -> None:
        """Wait for the turn of items or of others, and leave the one that the caller, who is taking, has."""
        wanted = self.items if items else self.others
        if self._mine is not wanted:
            self._leave()
            wanted.acquire()
            self._mine = wanted

    def has(self, *, items: bool) -> bool:
        """Whether whoever is taking has this turn."""
        return self._mine is (self.items if items else self.others)

    def await_all(self, seconds: float) -> None:
        """Wait until whoever was taking or finishing is done with it, each for so long at most."""
        for turn in (self._taking, self.others, self.items):
            if turn.acquire(timeout=seconds):
                turn.release()

    def _leave(self) -> None:
        if self._mine is not None:
            mine, self._mine = self._mine, None
            mine.release()
