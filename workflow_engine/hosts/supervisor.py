"""The supervisor: starts worker processes, starts those again that end, and drains them all when it is told to stop.

Each child has its standard input as a line to the supervisor: bytes are orders, and its end means that the supervisor
is gone. So children drain even if their supervisor was killed, and a signal that the system sends to all processes at
once counts once.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from .supervised import DEAD_WORKERS, DRAIN, HURRY, SUPERVISED, WORKER_ID

logger = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# Who has lived for so long has not died of its start.
GROWN_UP_SECONDS = 60.0
# What ``wfe_worker`` ends with when its arguments can never work: starting it again would not help.
HOPELESS = 2
# So many of those that ended badly are named to the next one: it may end badly itself before it has said so.
MOST_DEAD = 10


@dataclass(frozen=True, kw_only=True)
class ChildStarted:
    """A worker process was started; ``restarts``: how often it had to be started again before."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, kw_only=True)
class ChildExited:
    """A worker process ended after ``seconds``; another takes its place in ``again_in`` seconds, None: none does.

    ``signal`` is the name of the signal that killed it, else empty. ``code`` is that of a shell: 128 + signal.
    """

    name: str
    pid: int
    code: int
    signal: str
    seconds: float
    again_in: float | None


ChildEvent = ChildStarted | ChildExited


class _Child:
    """One place of a worker process, and whoever fills it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        # When to start it (again), by the monotonic clock.
        self.start_at: float | None = 0.0
        self.starts, self.young_deaths, self.code = 0, 0, 0
        self.worker_id = uuid.uuid4()
        self.dead: deque[uuid.UUID] = deque(maxlen=MOST_DEAD)

    def order(self, order: bytes) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.write(order)

    def pause(self, now: float) -> float:
        """Return how long to wait after its death: longer each time it dies young."""
        self.young_deaths = 0 if now - self.started_at >= GROWN_UP_SECONDS else self.young_deaths + 1
        return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** max(0, self.young_deaths - 1))


class Supervisor:
    """Keeps ``processes`` children running ``command``, each with ``--name`` and a name of its own.

    ``burst``: a child that has ended in good order is not replaced. ``tell`` hears what happens, in ``run``'s thread.
    It opens no connection to anything.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        name: str,
        burst: bool = False,
        tell: Callable[[ChildEvent], None] = lambda event: None,
    ) -> None:
        self._command, self._burst, self._tell = list(command), burst, tell
        self._children = [_Child(f"{name}-{number}") for number in range(1, processes + 1)]
        self._stops = 0
        # What other threads want of the one that runs.
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    @property
    def is_stopping(self) -> bool:
        return self._stops > 0

    def run(self) -> int:
        """Keep the children running until told to stop and all have ended; return 0, or the worst of their codes."""
        try:
            while open_ := [item for item in self._children if item.process or item.start_at is not None]:
                self._start_due()
                starts = [item.start_at for item in open_ if item.start_at is not None]
                wait = max(0.0, min(starts) - time.monotonic()) if starts else None
                with suppress(queue.Empty):
                    self._calls.get(timeout=wait)()
        finally:
            # Whatever happened: without its line a child drains.
            for child in self._children:
                self._hang_up(child)
        return max(item.code for item in self._children)

    def stop(self) -> None:
        """Let every child drain; a second call hurries them. From any thread."""
        self._calls.put(self._stop)

    def _stop(self) -> None:
        self._stops += 1
        for child in self._children:
            if child.start_at is not None:
                # Nobody is there who could end badly; how the one before died has been said.
                child.start_at, child.code = None, 0
            child.order(DRAIN if self._stops == 1 else HURRY)

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        child.started_at, child.worker_id = time.monotonic(), uuid.uuid4()
        ids = {WORKER_ID: str(child.worker_id), DEAD_WORKERS: " ".join(map(str, child.dead))}
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [*self._command, "--name", child.name],
                env={**os.environ, SUPERVISED: "1", **ids},
                stdin=subprocess.PIPE,
                bufsize=0,
                # Ctrl-C in a terminal reaches the supervisor alone, which passes it on.
                start_new_session=True,
            )
        except OSError as error:
            logger.warning("worker process not started, goes on trying name=%s error=%s", child.name, error)
            child.start_at = child.started_at + child.pause(child.started_at)
            return
        child.process, child.start_at = process, None
        child.starts += 1
        self._tell(ChildStarted(name=child.name, pid=process.pid, restarts=child.starts - 1))

        def wait() -> None:
            process.wait()
            self._calls.put(partial(self._ended, child, process))

        threading.Thread(target=wait, name=f"wfe-{child.name}", daemon=True).start()

    def _ended(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        now, code = time.monotonic(), process.returncode
        self._hang_up(child)
        child.process = None
        if self.is_stopping and code in (-signal.SIGTERM, -signal.SIGINT):
            # The system signalled all processes, and this one was not ready yet to drain: it had nothing.
            code = 0
        child.code = code if code >= 0 else 128 - code
        if child.code:
            child.dead.append(child.worker_id)
        again_in = self._again_in(child, now)
        self._tell(
            ChildExited(
                name=child.name,
                pid=process.pid,
                code=child.code,
                signal=_signal_name(process.returncode),
                seconds=now - child.started_at,
                again_in=again_in,
            )
        )
        if again_in is not None:
            child.start_at = now + again_in
        elif code == HOPELESS and not self.is_stopping:
            self._stop()

    def _again_in(self, child: _Child, now: float) -> float | None:
        if self.is_stopping or child.code == HOPELESS or (self._burst and child.code == 0):
            return None
        # In good order: it has done its share of work, or has grown too large.
        return child.pause(now) if child.code else 0.0

    def _hang_up(self, child: _Child) -> None:
        if child.process is not None and child.process.stdin is not None:
            with suppress(OSError):
                child.process.stdin.close()


def _signal_name(code: int) -> str:
    if code >= 0:
        return ""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
