"""What RQ's own tools see of a worker process of ours: ``rq info``, ``rqstats``, the pages of django-rq."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis, ResponseError
from rq import worker_registration
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus

from workflow_engine.kernel.ports import WorkerFacts

from .jobs import StageJob
from .line import Line

WORKER_SECONDS = 60
BEAT_SECONDS = 10.0
CHANGE_SECONDS = 1.0


class EngineWorker(BaseWorker):
    """A worker that RQ can list. It never runs RQ's loop: the engine takes its work from the database."""

    def __init__(self, facts: WorkerFacts, queues: Sequence[str], connection: Redis) -> None:
        super().__init__(
            list(queues),
            # Of one boot only: a restarted process must not find its own name taken.
            name=f"{facts.name}-{facts.id.hex[:8]}".replace("/", "-"),
            connection=connection,
            worker_ttl=WORKER_SECONDS,
            job_class=StageJob,
            serializer="json",
            prepare_for_work=False,
        )
        self.hostname, self.pid = facts.host, facts.pid
        self.birth_date = now()
        self._state = WorkerStatus.IDLE.value

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ would raise the timeout of the whole pool to the time that it blocks for.
        return connection

    def serialize(self) -> dict[Any, Any]:
        fields = {**super().serialize(), "state": self._state, "successful_job_count": self.successful_job_count}
        return {key: "" if value is None else value for key, value in fields.items()}

    def register_birth(self) -> None:
        """Write the worker's entry, whatever there was: it is written again when Redis was emptied."""
        try:
            self.ip_address = str(self.connection.client_info()["addr"])
        except ResponseError:
            self.ip_address = "unknown"
        self.last_heartbeat = now()
        with self.connection.pipeline() as pipe:
            pipe.delete(self.key)
            pipe.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipe)
            pipe.expire(self.key, WORKER_SECONDS + 60)
            pipe.execute()

    def renew(self, state: str, finished: int) -> None:
        """Renew the entry; one that is gone is written anew."""
        self._state, self.successful_job_count = state, finished
        fields: dict[Any, Any] = {"last_heartbeat": utcformat(now()), "state": state, "successful_job_count": finished}
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.hset(self.key, mapping=fields)
            pipe.expire(self.key, WORKER_SECONDS + 60)
            added = pipe.execute()[0]
        if added:
            self.register_birth()


class Registration:
    """Keeps the entry alive, as seldom as that can be done."""

    def __init__(self, line: Line, facts: WorkerFacts, queues: Sequence[str]) -> None:
        self._line, self._facts, self._queues = line, facts, queues
        self._worker: EngineWorker | None = None
        self._told: tuple[str, int] = (WorkerStatus.IDLE.value, 0)
        self._told_at = -math.inf

    def register(self) -> None:
        self._line.ask(self._renew, None)

    def beat(self, state: str, finished: int) -> None:
        """Tell Redis at most every 10 s, or after 1 s if the state is another."""
        since = time.monotonic() - self._told_at
        if since < CHANGE_SECONDS or (since < BEAT_SECONDS and state == self._told[0]):
            return
        self._told = state, finished
        self._line.ask(self._renew, None)

    def unregister(self) -> None:
        worker = self._worker
        if worker is not None:
            self._line.ask(lambda client: worker.register_death(), None)  # type: ignore[no-untyped-call]

    def _renew(self, client: Redis) -> None:
        self._told_at = time.monotonic()
        if self._worker is not None:
            self._worker.renew(*self._told)
            return
        worker = EngineWorker(self._facts, self._queues, client)
        worker.register_birth()
        self._worker = worker
