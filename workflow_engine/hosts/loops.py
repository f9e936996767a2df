"""Supervised loops: a thread that does one thing again and again, and says once when it cannot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import connections

from workflow_engine.executors.tidying import tidy_connections

logger = logging.getLogger(__name__)


class Loop:
    """Calls ``step`` every ``every`` seconds, never twice at once; after an error sooner, with backoff.

    A step that returns a number of seconds is called again after those, if that is sooner. An error is logged once,
    and its end too, not at every turn.
    """

    def __init__(self, name: str, step: Callable[[], object], every: float, *, retry_after: float = 0.5) -> None:
        self.name = name
        self._step, self._every, self._retry_after = step, every, retry_after
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wfe-{name}", daemon=True)
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Let the next turn begin now."""
        self._wake.set()

    @property
    def is_woken(self) -> bool:
        """Whether the next turn begins without a rest."""
        return self._wake.is_set()

    def stop(self, timeout: float = 5) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = self.turn()
            wait = self._every if asked is None else min(self._every, asked)
            if self.failures:
                wait = min(self._every, self._retry_after * 2 ** min(self.failures - 1, 6))
            self._wake.wait(wait)
            self._wake.clear()
        connections.close_all()

    def turn(self) -> float | None:
        """Do one step; return after how many seconds it wants the next one, if it says so."""
        asked = None
        try:
            found = self._step()
            asked = found if isinstance(found, float) else None
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                logger.warning(
                    "loop failing, goes on trying loop=%s error=%s: %s", self.name, type(error).__name__, error
                )
            else:
                logger.debug("loop still failing loop=%s", self.name, exc_info=True)
        else:
            if self.failures:
                logger.info("loop works again loop=%s after=%s", self.name, self.failures)
            self.failures = 0
        try:
            tidy_connections()
        except Exception:
            logger.exception("database connections cannot be tidied loop=%s", self.name)
        return asked
