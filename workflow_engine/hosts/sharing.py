"""A few threads for many who want a turn now and then; one that hangs holds up nobody but itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections

from workflow_engine.executors.tidying import tidy_connections

logger = logging.getLogger(__name__)
# A thread that had nothing to do for so long ends.
IDLE_SECONDS = 30.0
# After an error of ours, ever longer.
AGAIN_SECONDS, LONGEST_SECONDS = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn. ``again``: seconds after which there is more to do; None: nothing is known of."""

    again: float | None = None
    # It failed, so that its next turn may take as long as a turn can.
    is_slow: bool = False


class SharedThreads:
    """Gives turns in the order in which they were asked for; never two of one name at a time.

    Those whose last turn failed or hung have at most half of the threads, however many they are.
    """

    def __init__(self, name: str, turn: Callable[[str], Turn], size: int) -> None:
        self._name, self._turn, self._size = name, turn, size
        self._slow_size = max(1, size // 2)
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._resting: dict[str, float] = {}
        # True: it was asked for again meanwhile.
        self._running: dict[str, bool] = {}
        self._slow: set[str] = set()
        self._slow_running: set[str] = set()
        self._failures: dict[str, int] = {}
        self._threads: set[threading.Thread] = set()
        self._idle, self._stopped = 0, False

    def wake(self, name: str) -> None:
        """Give ``name`` a turn soon; one that rests has it after its rest."""
        with self._changed:
            if self._stopped or name in self._resting or name in self._waiting:
                return
            if name in self._running:
                self._running[name] = True
                return
            self._add(name)

    def stop(self, timeout: float) -> None:
        """Give no further turns, and wait a moment for those under way."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            threads = list(self._threads)
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _add(self, name: str) -> None:
        self._waiting.append(name)
        if self._idle >= len(self._waiting) or len(self._threads) >= self._size:
            self._changed.notify()
            return
        thread = threading.Thread(target=self._run, name=f"wfe-{self._name}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            raise

    def _run(self) -> None:
        while (name := self._next()) is not None:
            turn = self._take(name)
            with self._changed:
                self._end(name, turn)
        connections.close_all()
        with self._changed:
            self._threads.discard(threading.current_thread())

    def _next(self) -> str | None:
        """Wait for the next one's turn; None: this thread is not needed any more."""
        end = time.monotonic() + IDLE_SECONDS
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                for rested in [name for name, until in self._resting.items() if until <= now]:
                    del self._resting[rested]
                    self._waiting.append(rested)
                if (name := self._choose()) is not None:
                    self._waiting.remove(name)
                    self._running[name] = False
                    if name in self._slow:
                        self._slow_running.add(name)
                    return name
                if now >= end and not self._resting:
                    # Whoever asks next starts a thread.
                    self._threads.discard(threading.current_thread())
                    return None
                self._idle += 1
                self._changed.wait(
                    max(0.001, min([end if end > now else now + IDLE_SECONDS, *self._resting.values()]) - now)
                )
                self._idle -= 1
        return None

    def _choose(self) -> str | None:
        full = len(self._slow_running) >= self._slow_size
        return next((name for name in self._waiting if not (full and name in self._slow)), None)

    def _take(self, name: str) -> Turn:
        try:
            turn = self._turn(name)
        except Exception as error:
            number = self._failures[name] = self._failures.get(name, 0) + 1
            level = logging.WARNING if number == 1 else logging.DEBUG
            logger.log(level, "turn failed, comes again name=%s error=%s: %s", name, type(error).__name__, error)
            turn = Turn(min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** min(number - 1, 10)))
        else:
            self._failures.pop(name, None)
        try:
            tidy_connections()
        except Exception:
            logger.exception("database connections cannot be tidied")
        return turn

    def _end(self, name: str, turn: Turn) -> None:
        asked = self._running.pop(name)
        self._slow_running.discard(name)
        (self._slow.add if turn.is_slow else self._slow.discard)(name)
        if turn.again:
            self._resting[name] = time.monotonic() + turn.again
        elif asked or turn.again is not None:
            self._waiting.append(name)
        # For the next of the slow ones too, and for whoever waits until a rest is over.
        self._changed.notify_all()
