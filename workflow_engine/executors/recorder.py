"""Log lines and progress on their way to the database: queued by bodies, written in batches by another thread."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

from django.db import Error, connections

from workflow_engine.errors import as_text
from workflow_engine.kernel.payloads import scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowLog
from workflow_engine.redaction import redact

from .held import Held

logger = logging.getLogger(__name__)
MAX_QUEUED = 20_000
MAX_MESSAGE = 10_000
FLUSH_WAIT_SECONDS = 1.0


class Recorder:
    """Never makes a body wait. What cannot be written stays queued, up to a bound; then the oldest lines go."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._lines: deque[tuple[Held, WorkflowLog]] = deque(maxlen=MAX_QUEUED)
        self._progress: dict[uuid.UUID, tuple[Held, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._failing = False

    def log(self, held: Held, level: str, message: str, fields: Any) -> None:
        stage = held.stage
        line = WorkflowLog(
            run_id=stage.run_id,
            stage_run_id=stage.stage_run_id,
            stage=stage.stage_id,
            attempt=stage.attempt,
            level=level,
            message=scrub(as_text(message))[:MAX_MESSAGE],
            fields=redact(scrub(dict(fields))),
            # When it was said; the rows' ids give the order.
            created_at=self._ports.clock.now(),
        )
        with self._lock:
            self._lines.append((held, line))

    def progress(self, held: Held, value: dict[str, Any]) -> None:
        with self._lock:
            self._progress[held.stage.stage_run_id] = (held, value)

    def flush(self) -> None:
        """Write what is queued, once a second and before each finish; lines of lost attempts are dropped."""
        # Never for long: whoever finishes a stage must not wait for a slow batch of others' lines.
        if not self._writing.acquire(timeout=FLUSH_WAIT_SECONDS):
            return
        try:
            with self._lock:
                lines = list(self._lines)
                self._lines.clear()
                progress = list(self._progress.values())
                self._progress.clear()
            if not lines and not progress:
                return
            try:
                wrote = self._write(lines)
                lines = []
                wrote += self._show(progress)
                if wrote:
                    # What had nothing to write has not seen the database.
                    self._failing = False
            except Error as error:
                self._put_back(lines, progress)
                if not self._failing:
                    logger.warning("logs and progress cannot be written, kept for later error=%s", error)
                self._failing = True
                connections[self._ports.using].close_if_unusable_or_obsolete()
        finally:
            self._writing.release()

    def _write(self, lines: list[tuple[Held, WorkflowLog]]) -> int:
        # Copies: a key that the database gave to a try that failed must not be written again.
        rows = [copy(line) for held, line in lines if not held.lost.is_set()]
        WorkflowLog.objects.using(self._ports.using).bulk_create(rows, 500)
        return len(rows)

    def _show(self, progress: list[tuple[Held, dict[str, Any]]]) -> int:
        rows, asked = StageRun.objects.using(self._ports.using), 0
        for held, value in progress:
            if held.lost.is_set():
                continue
            shown = rows.show_progress(held.stage.stage_run_id, held.stage.token, value)
            asked += 1
            if shown is None:
                self._put_back([], [(held, value)])
            elif not shown:
                held.lost.set()
        return asked

    def _put_back(self, lines: list[Any], progress: list[tuple[Held, dict[str, Any]]]) -> None:
        with self._lock:
            room = MAX_QUEUED - len(self._lines)
            self._lines.extendleft(reversed(lines[-room:] if room else []))
            for held, value in progress:
                self._progress.setdefault(held.stage.stage_run_id, (held, value))


class RecorderThread:
    """Flushes a recorder once a second until it is stopped."""

    def __init__(self, flush: Callable[[], None], every: float = 1.0) -> None:
        self._flush, self._every = flush, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wfe-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._flush()
            except Exception:
                logger.exception("recorder failed")
        self._flush()
        connections.close_all()
