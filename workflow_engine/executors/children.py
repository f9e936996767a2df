"""Child processes that are kept warm, each for one body at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from workflow_engine.errors import ProcessDied

from .channel import Channel

COMMAND = "workflow_engine.executors.child"
# How often a wait for a child looks at anything else.
LOOK_SECONDS = 0.25
START_SECONDS = 60.0
END_SECONDS = 5.0


class Child:
    """One child process. What it is waited for, ``look`` is called every quarter of a second; it may raise."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                # -P: the folder that happens to be the current one is no place for code.
                [sys.executable, "-P", "-m", COMMAND, str(theirs.fileno()), str(os.getpid())],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel = Channel(ours)
        self.bodies = 0
        self._send({"path": sys.path, "pythonpath": os.environ.get("PYTHONPATH")})

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self, look: Callable[[], None]) -> None:
        """Raises ``ProcessDied``."""
        deadline = time.monotonic() + START_SECONDS
        message = self._wait(look, deadline)
        if message is None:
            raise ProcessDied(f"a child process did not get ready within {START_SECONDS:g} s")
        if "broken" in message:
            raise ProcessDied(f"a child process cannot start: {message['broken']}")

    def begin(self, request: Mapping[str, Any], look: Callable[[], None]) -> None:
        """Let the child begin a body. Raises ``ProcessDied``: it has not begun."""
        self._send(request)
        if self._wait(look, time.monotonic() + START_SECONDS) is None:
            raise ProcessDied(f"a child process did not begin within {START_SECONDS:g} s")
        self.bodies += 1

    def result(self, look: Callable[[], None], deadline: float | None) -> dict[str, Any] | None:
        """Return the child's answer, None if there was none until ``deadline``. Raises ``ProcessDied``."""
        return self._wait(look, deadline)

    def kill(self) -> None:
        """End it and what it has started now."""
        # Its number stays its own until it has been waited for.
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._channel.close()

    def retire(self) -> None:
        """End it once it is idle."""
        self._channel.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._channel.send(message)
        except OSError:
            raise self._death() from None

    def _wait(self, look: Callable[[], None], deadline: float | None) -> dict[str, Any] | None:
        while True:
            left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                message = self._channel.receive(max(0.0, min(LOOK_SECONDS, left)))
            except EOFError:
                raise self._death() from None
            if message is not None:
                return message
            if left <= 0:
                return None
            look()
            # A process that its body has started may hold the channel open.
            if self._process.poll() is not None:
                raise self._death()

    def _death(self) -> ProcessDied:
        self.kill()
        code = self._process.returncode
        if code >= 0:
            return ProcessDied(f"the process that ran the body exited with code {code}")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (was memory short?)" if -code == signal.SIGKILL else ""
        return ProcessDied(f"the process that ran the body was killed by {name}{hint}")


def _environment() -> dict[str, str]:
    """Return our environment, with our ``sys.path`` as ``PYTHONPATH`` until the child has put its own right."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}


class Children:
    """The children of this process: idle ones are used again, up to ``bodies`` bodies each. Thread-safe."""

    def __init__(self, bodies: int) -> None:
        self._most = bodies
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._stopped = False
        # The kernel ends a child with the thread that started it, not with its process: this one stays.
        self._starter = ThreadPoolExecutor(1, "wfe-children")

    def take(self, look: Callable[[], None]) -> Child:
        """Return a child that is ready, the caller's until it is given back. Raises ``ProcessDied``."""
        with self._lock:
            if self._stopped:
                raise ProcessDied("this worker has been stopped")
            child = self._idle.pop() if self._idle else None
            if child is not None:
                self._busy.add(child)
                return child
        child = self._starter.submit(Child).result()
        with self._lock:
            self._busy.add(child)
            stopped = self._stopped
        try:
            if stopped:
                raise ProcessDied("this worker has been stopped")
            child.wait_until_ready(look)
        except BaseException:
            self.discard(child)
            raise
        return child

    def give_back(self, child: Child) -> None:
        with self._lock:
            self._busy.discard(child)
            keeps = child.bodies < self._most and not self._stopped
            if keeps:
                self._idle.append(child)
        if not keeps:
            child.retire()

    def discard(self, child: Child) -> None:
        """Kill a child that is not to be used again."""
        with self._lock:
            self._busy.discard(child)
        child.kill()

    def stop(self) -> None:
        """End idle children; busy ones are killed."""
        with self._lock:
            self._stopped = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for child in busy:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in idle:
            child.retire()
        self._starter.shutdown()
