"""Runs created at a steady pace by a thread, whatever happens to the servers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error, connections

from workflow_engine import create_run
from workflow_engine.errors import WorkflowEngineError


@dataclass(frozen=True)
class Created:
    run_id: str
    workflow: str
    input: str
    at: float
    seconds: float


class Load:
    """Creates runs; each has a key of its own and is asked for until it is there, so none can be lost or doubled."""

    def __init__(self, mix: Sequence[str], per_second: float) -> None:
        self.created: list[Created] = []
        self.refused = 0
        self._mix, self._per_second = mix, per_second
        self._numbers = itertools.count(1)
        self._stop = threading.Event()

    def create(self, workflow: str = "") -> None:
        """Create one run, however often that needs to be tried."""
        number = next(self._numbers)
        workflow = workflow or self._mix[number % len(self._mix)]
        text = f"input-{number}"
        while True:
            began = time.time()
            try:
                run = create_run(workflow, text, idempotency_key=text)
                break
            except (WorkflowEngineError, Error):
                self.refused += 1
                connections.close_all()
                if self._stop.wait(0.2):
                    raise
        self.created.append(Created(str(run.pk), workflow, text, time.time(), time.time() - began))

    def burst(self, count: int, workflow: str = "") -> list[Created]:
        """Create ``count`` runs as fast as it goes; return them."""
        before = len(self.created)
        for _ in range(count):
            self.create(workflow)
        return self.created[before:]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Create runs at a steady pace inside the block."""
        done = threading.Event()

        def flow() -> None:
            due = time.monotonic()
            while not done.is_set():
                self.create()
                due = max(due + 1 / self._per_second, time.monotonic() - 1)
                done.wait(max(0.0, due - time.monotonic()))
            connections.close_all()

        thread = threading.Thread(target=flow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(60)
