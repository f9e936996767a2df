"""Calls that must come back in time: each subscriber's calls have a thread, which is given up if one hangs."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from django.db import connections

from workflow_engine.definitions.plugins import RunEvent
from workflow_engine.errors import DeliveryTimeout

logger = logging.getLogger(__name__)
Emit = Callable[[RunEvent], None]
# So many calls of one subscriber may hang in a process before no more are made there.
MOST_HANGING = 3
# A thread that nothing was delivered by for so long ends.
IDLE_SECONDS = 30.0


class TimedSink:
    """A sink whose calls end after ``seconds``, as far as whoever delivers is concerned.

    The thread of a call that hangs cannot be stopped; it is left behind, and what it still does counts for nothing.
    """

    def __init__(self, name: str, emit: Emit, seconds: float, tidy: Callable[[], None]) -> None:
        """``tidy`` is called in the sink's thread after each call: what it left open is closed."""
        self._name, self._emit, self._seconds, self._tidy = name, emit, seconds, tidy
        self._lock = threading.Lock()
        self._idle: list[_Caller] = []
        self._hanging: list[_Call] = []

    def emit(self, event: RunEvent) -> None:
        """Raises ``DeliveryTimeout``, and whatever the sink raises."""
        with self._lock:
            self._hanging = [call for call in self._hanging if not call.done.is_set()]
            if len(self._hanging) >= MOST_HANGING:
                raise DeliveryTimeout(f"{len(self._hanging)} earlier calls of {self._name} have not returned yet.")
            caller = self._idle.pop() if self._idle else _Caller(self._name)
        call = _Call(lambda: self._emit(event), self._tidy)
        if not caller.make(call):
            # It has just gone, after a long rest.
            caller = _Caller(self._name)
            caller.make(call)
        if not call.done.wait(self._seconds):
            with self._lock:
                self._hanging.append(call)
            caller.leave()
            raise DeliveryTimeout(f"{self._name} took longer than {self._seconds:g} s.")
        with self._lock:
            self._idle.append(caller)
        if call.error is not None:
            raise call.error

    @property
    def hanging(self) -> int:
        """How many calls have not come back in time, and still have not."""
        with self._lock:
            return sum(not call.done.is_set() for call in self._hanging)


class _Call:
    def __init__(self, function: Callable[[], None], tidy: Callable[[], None]) -> None:
        self._function, self._tidy, self.done = function, tidy, threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._function()
        except Exception as error:
            self.error = error
        except BaseException as error:  # a plugin that exits must not take the thread's next calls with it
            self.error = RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            try:
                # A transaction that the plugin left open would never be committed.
                self._tidy()
            except Exception:
                logger.exception("database connections cannot be tidied")
            self.done.set()


class _Caller:
    """A daemon thread that makes one call after the other."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock, self._gone = threading.Lock(), False
        threading.Thread(target=self._run, name=f"wfe-sink-{name}"[:80], daemon=True).start()

    def make(self, call: _Call) -> bool:
        """Return False if the thread has ended."""
        with self._lock:
            if self._gone:
                return False
            self._calls.put(call)
            return True

    def leave(self) -> None:
        """End after the call that is being made."""
        self._calls.put(None)

    def _run(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if not self._calls.empty():
                        continue
                    self._gone = True
                break
            if call is None:
                break
            call.run()
        connections.close_all()
