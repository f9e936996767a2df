"""The database as the queue: the due PENDING rows *are* the messages, so a push only wakes this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from django.db.models.functions import Now

from workflow_engine.kernel.ports import JobTransport, Message
from workflow_engine.models import StageRun


class DatabaseTransport(JobTransport):
    """Workers of other processes find new work by polling; those of this process are woken at commit."""

    def __init__(self, using: str = "default") -> None:
        self._using = using
        self._bell = threading.Condition()
        self._rings = 0
        self._seen = threading.local()

    def push(self, messages: Sequence[Message]) -> None:
        with self._bell:
            self._rings += 1
            self._bell.notify_all()

    def pop(self, wait: float) -> list[Message]:
        """Wait until something was pushed since the last call in this thread; the rows say what."""
        with self._bell:
            seen = getattr(self._seen, "rings", 0)
            self._bell.wait_for(lambda: self._rings != seen, timeout=wait)
            self._seen.rings = self._rings
        return []

    def ack(self, message: Message) -> None:
        """Nothing to do: the row's status says it."""

    def depth(self, queue: str) -> int:
        return StageRun.objects.using(self._using).due(Now(), [queue]).count()

    def epoch(self) -> str:
        return "database"
