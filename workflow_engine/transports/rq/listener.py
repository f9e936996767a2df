"""The thread that hears bells in Redis, as long as somebody in this process waits for one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from redis import Redis
from rq.queue import Queue
from rq.utils import as_text

from .connecting import connect
from .doorbell import Doorbell
from .jobs import open_bell
from .line import LISTENING, Line

logger = logging.getLogger(__name__)
# Short, so that a connection that is only half open is found out soon.
BLOCK_SECONDS = 4
ANSWER_SECONDS = BLOCK_SECONDS + 2.0
IDLE_SECONDS = 5.0


class Listener:
    """Pops bells only while the worker has a free slot and found nothing to do: a busy worker leaves them to others.

    It pops by BLPOP. A bell that is lost with its process is no loss: the tick rings again for what is still due.
    """

    def __init__(
        self,
        line: Line,
        doorbell: Doorbell,
        queues: Iterable[str],
        *,
        pauses: Callable[[], bool],
        revive: Callable[[], None],
    ) -> None:
        """``pauses``: no bell is popped now. ``revive`` registers the worker anew after an outage."""
        self._line, self._doorbell, self._pauses, self._revive = line, doorbell, pauses, revive
        self._names = tuple(queues)
        self._stopped = threading.Event()
        self._client: Redis | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="wfe-rq-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hear(self, queues: Iterable[str]) -> None:
        """Listen for these queues too, from the next turn on."""
        new = set(queues) - set(self._names)
        if new:
            self._names = (*self._names, *sorted(new))

    def stop(self, timeout: float = 2) -> None:
        self._stopped.set()
        # Whoever looks at the number of waiters finds out; whoever reads from Redis gets an error.
        self._doorbell.ring()
        client = self._client
        if client is not None:
            client.connection_pool.disconnect()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            if not self._doorbell.wait_for_waiter(IDLE_SECONDS, unless=self._stopped.is_set):
                continue
            if self._pauses():
                self._stopped.wait(1)
                continue
            try:
                self._turn()
            # Supervised: a thread that dies here would leave the worker deaf without a word.
            except Exception as error:
                if not self._stopped.is_set():
                    self._failures += 1
                    self._line.lost(LISTENING, error)
                    self._stopped.wait(min(0.1 * 2**self._failures, 2))
            else:
                self._line.found(LISTENING)
                if self._failures or not self._line.is_up:
                    self._revive()
                self._failures = 0
        if self._client is not None:
            self._client.close()

    def _turn(self) -> None:
        if self._client is None:
            self._client = connect(answer_within=ANSWER_SECONDS)
        client = self._client
        queues = {queue.key: queue for queue in (Queue(name, connection=client) for name in self._names)}
        popped = client.blpop(list(queues), timeout=1 if self._failures else BLOCK_SECONDS)
        if popped is None:
            return
        key, job_id = as_text(popped[0]), as_text(popped[1])
        if not self._doorbell.has_waiter:
            # The worker has found work by itself meanwhile: the bell is for somebody who is idle.
            client.lpush(key, job_id)
            return
        self._doorbell.ring(open_bell(client, queues[key], job_id))
