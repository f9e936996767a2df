"""What tells a worker to stop besides its own end of work: signals, its supervisor, its memory."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Set in the environment of a supervisor's children: that they are some; the worker's id; those of the workers that were
# in this place before, and have ended badly.
SUPERVISED = "WORKFLOW_ENGINE_SUPERVISED"
WORKER_ID, DEAD_WORKERS = "WORKFLOW_ENGINE_WORKER_ID", "WORKFLOW_ENGINE_DEAD_WORKERS"
DRAIN, HURRY = b"d", b"h"
LOOK_SECONDS = 0.5


class Stopping:
    """How urgently a worker stops. The same order from two sides counts once: only a second signal hurries."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._urgency, self._signals = 0, 0

    def signal(self) -> None:
        with self._lock:
            self._signals += 1
            self._raise_to(min(self._signals, 2))

    def drain(self) -> None:
        with self._lock:
            self._raise_to(1)

    def hurry(self) -> None:
        with self._lock:
            self._raise_to(2)

    def _raise_to(self, urgency: int) -> None:
        while self._urgency < urgency:
            self._urgency += 1
            self._stop()


def take_ids() -> tuple[uuid.UUID | None, tuple[uuid.UUID, ...]]:
    """Return which worker a supervisor wants this process to be, and whose processes are gone. To be called once."""
    own, dead = os.environ.pop(WORKER_ID, ""), os.environ.pop(DEAD_WORKERS, "")
    return uuid.UUID(own) if own else None, tuple(map(uuid.UUID, dead.split()))


def take_line() -> int | None:
    """Return the descriptor of the line to this process's supervisor, None if it has none. To be called once.

    The standard input is empty from then on, and programs that bodies start know nothing of the line.
    """
    if os.environ.pop(SUPERVISED, None) is None:
        return None
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return line


def obey(line: int, stopping: Stopping) -> None:
    """Do what the supervisor says, in a thread of its own; drain when it is gone."""

    def listen() -> None:
        while order := os.read(line, 1):
            stopping.hurry() if order == HURRY else stopping.drain()
        stopping.drain()

    threading.Thread(target=listen, name="wfe-supervisor", daemon=True).start()


def resident_bytes() -> int:
    """Return how much memory this process holds; off Linux, the most it has ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def memory_watch(limit: int | None, on_excess: Callable[[int], None]) -> Iterator[None]:
    """Inside the block, call ``on_excess`` once, with the bytes held, when they are more than ``limit``."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            held = resident_bytes()
            if limit is not None and held > limit:
                on_excess(held)
                return

    if limit is not None:
        threading.Thread(target=watch, name="wfe-memory", daemon=True).start()
    try:
        yield
    finally:
        done.set()
