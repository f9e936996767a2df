"""Whether Redis answers: said once when that changes, and not asked again for a moment after it failed."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis

from .connecting import connect

logger = logging.getLogger(__name__)
T = TypeVar("T")
ANSWER_SECONDS = 1.0
# For so long after a failure nobody in this process asks: a Redis that hangs costs one request its timeout, not each.
BREAK_SECONDS = 2.0
# Other processes may go on skipping bells for a moment after Redis is back here.
SHAKY_SECONDS = 5.0
ASKING, LISTENING = "ask", "listen"


class Line:
    """One per process. Asking and listening are broken apart: a full Redis still lets us listen, but not ring."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        self._lock = threading.Lock()
        self._client: Redis | None = None
        # What is broken -> when it may be tried again.
        self._broken: dict[str, float] = {}
        self._back_at = -math.inf

    def ask(self, question: Callable[[Redis], T], otherwise: T, *, writes: bool = True) -> T:
        """Return Redis's answer, or ``otherwise`` at once while it is away. Never raises, never takes for long.

        ``writes`` False: the question only reads, so its success does not say that bells can be rung again.
        """
        if not self._may_try():
            return otherwise
        try:
            answer = question(self._connected())
        # Whatever it is: who commits, beats or ticks can do without Redis, and has nothing to handle here.
        except Exception as error:
            self.lost(ASKING, error)
            return otherwise
        if writes:
            self.found(ASKING)
        return answer

    def lost(self, part: str, error: Exception) -> None:
        with self._lock:
            was_up = not self._broken
            self._broken[part] = time.monotonic() + BREAK_SECONDS
        if was_up:
            logger.warning(
                "redis does not answer, workers poll the database meanwhile error=%s: %s", type(error).__name__, error
            )
            self._on_loss()
        else:
            logger.debug("redis still does not answer part=%s", part, exc_info=error)

    def found(self, part: str) -> None:
        if not self._broken:
            return
        with self._lock:
            was_broken = self._broken.pop(part, None) is not None
            is_back = was_broken and not self._broken
            if is_back:
                self._back_at = time.monotonic()
        if is_back:
            logger.info("redis answers again")

    @property
    def is_up(self) -> bool:
        return not self._broken

    @property
    def is_steady(self) -> bool:
        """Whether it is up and has been for a while, so that nobody skips bells any more."""
        return self.is_up and time.monotonic() - self._back_at > SHAKY_SECONDS

    def close(self) -> None:
        """Give connections back to the system; the next question opens one again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _may_try(self) -> bool:
        if ASKING not in self._broken:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._broken.get(ASKING, now):
                return False
            # One caller tries; the others go on without until it knows.
            self._broken[ASKING] = now + BREAK_SECONDS
            return True

    def _connected(self) -> Redis:
        client = self._client
        if client is None:
            with self._lock:
                client = self._client = self._client or connect(answer_within=ANSWER_SECONDS)
        return client
