"""Runs created at a steady pace by a thread."""

from __future__ import annotations

import threading
import time

from django.db import Error, connections

from tests.bounded.workflows import MIX
from workflow_engine import cancel_runs, create_run
from workflow_engine.errors import WorkflowEngineError

# Of so many runs one more is created that does not end by itself; so many of those are cancelled together.
CANCELLED_EVERY, CANCELLED_TOGETHER = 12, 5


class Load(threading.Thread):
    """Every second run has an idempotency key."""

    def __init__(self, per_second: float) -> None:
        super().__init__(daemon=True)
        self.created = self.refused = 0
        self._per_second = per_second
        self._done = threading.Event()
        self._sleeping: list[object] = []

    def run(self) -> None:
        due = time.monotonic()
        while not self._done.is_set():
            try:
                self._create()
            except (WorkflowEngineError, Error):
                self.refused += 1
                connections.close_all()
            due += 1 / self._per_second
            self._done.wait(max(0.0, due - time.monotonic()))
        connections.close_all()

    def stop(self) -> None:
        self._done.set()
        self.join(60)

    def _create(self) -> None:
        number = self.created
        self.created += 1
        key = f"key-{number}" if number % 2 else None
        create_run(MIX[number % len(MIX)], f"text-{number}", idempotency_key=key)
        if number % CANCELLED_EVERY == 0:
            self._sleeping.append(create_run("cancelled", f"text-{number}").pk)
        if len(self._sleeping) == CANCELLED_TOGETHER:
            cancel_runs(self._sleeping, reason="enough")
            self._sleeping = []
