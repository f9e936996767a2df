"""The adapter: bells in Redis for whoever is idle, the database for everything that matters."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Sequence

from redis import Redis
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import as_text
from rq.worker import WorkerStatus

from workflow_engine.kernel.ports import JobTransport, Message, WorkerFacts

from .doorbell import Doorbell
from .line import Line
from .listener import Listener
from .names import rq_queue, rq_queues
from .registration import Registration
from .ringing import ring

EPOCH_KEY = "wfe:epoch"
SUSPENSION_SECONDS = 1.0


class RqTransport(JobTransport):
    """Rings workers by Redis lists of RQ, within milliseconds, on any number of machines.

    A bell says "something is due in this queue". Which stage is taken, and in which order, the database decides when
    the worker looks: so bells need no priority, and one that is lost, doubled or late costs at most time.

    Redis may go away at any time. That is said once; workers look for work by themselves (``polls``) until it is back.
    """

    def __init__(self, using: str = "default") -> None:
        self._doorbell = Doorbell()
        self._line = Line(on_loss=self._doorbell.ring)
        self._lock = threading.Lock()
        self._workers = 0
        self._takes_all = False
        self._listener: Listener | None = None
        self._registration: Registration | None = None
        self._suspended, self._suspension_asked_at = False, -math.inf
        self._epoch = "unknown"

    def push(self, messages: Sequence[Message]) -> None:
        """Wake a worker that waits in this very process, then ring in Redis; without messages only the former."""
        self._doorbell.ring()
        if messages:
            self._line.ask(lambda client: ring(client, messages), 0)

    def pop(self, wait: float) -> list[Message]:
        return self._doorbell.wait(wait)

    def ack(self, message: Message) -> None:
        """Nothing to do: a bell is gone from Redis when it has rung."""

    def depth(self, queue: str) -> int:
        """Return how many bells hang in Redis, 0 while it is away; how much is due only the database knows."""
        key = f"{Queue.redis_queue_namespace_prefix}{rq_queue(queue)}"
        return int(self._line.ask(lambda client: client.llen(key), 0, writes=False))

    def epoch(self) -> str:
        """Return a random value that Redis keeps; while it is away the last one that was seen."""
        self._epoch = self._line.ask(_epoch, self._epoch)
        return self._epoch

    def attach(self, worker: WorkerFacts) -> None:
        queues = rq_queues(worker.queues)
        with self._lock:
            self._workers += 1
            self._takes_all = self._takes_all or worker.queues is None
            if self._listener is not None:
                self._listener.hear(queues)
                return
            self._registration = registration = Registration(self._line, worker, queues)
            registration.register()
            self._listener = Listener(
                self._line, self._doorbell, queues, pauses=lambda: self.suspended, revive=registration.register
            )
            self._listener.start()

    def detach(self) -> None:
        with self._lock:
            self._workers = max(0, self._workers - 1)
            if self._workers or self._listener is None:
                return
            listener, registration = self._listener, self._registration
            self._listener = self._registration = None
            self._takes_all = False
        listener.stop()
        if registration is not None:
            registration.unregister()
        self._line.close()

    def beat(self, running: int, finished: int) -> None:
        registration = self._registration
        if registration is None:
            return
        idle = WorkerStatus.SUSPENDED if self._suspended else WorkerStatus.IDLE
        registration.beat((WorkerStatus.BUSY if running else idle).value, finished)

    def refill(self, queues: Sequence[str]) -> None:
        """Ring once in each queue in which no bell hangs; at most two round trips."""
        listener = self._listener
        if listener is not None and self._takes_all:
            # Queues that only old runs know: nobody would listen for them.
            listener.hear(rq_queues(queues))
        if queues:
            self._line.ask(lambda client: ring(client, [Message(queue) for queue in dict.fromkeys(queues)]), 0)

    @property
    def polls(self) -> bool:
        """True unless this process listens, and Redis has been there for more than 5 s since it was last away.

        Five seconds, because the breaker of another process may go on skipping bells for a moment.
        """
        return self._listener is None or not self._line.is_steady

    @property
    def suspended(self) -> bool:
        """Whether ``rq suspend`` or ``manage.py rqsuspend`` was said; False while Redis is away."""
        if not self._line.is_up:
            self._suspended = False
        elif time.monotonic() - self._suspension_asked_at >= SUSPENSION_SECONDS:
            found = self._line.ask(lambda client: client.exists(WORKERS_SUSPENDED), 0, writes=False)
            # The time last: until then others ask too, instead of believing what was known before.
            self._suspended, self._suspension_asked_at = bool(found), time.monotonic()
        return self._suspended


def _epoch(client: Redis) -> str:
    with client.pipeline(transaction=False) as pipe:
        pipe.set(EPOCH_KEY, secrets.token_hex(8), nx=True)
        pipe.get(EPOCH_KEY)
        return as_text(pipe.execute()[1])
