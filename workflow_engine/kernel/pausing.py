"""Which workflows and queues are paused: read at most once a second, so that asking costs the hot path nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from workflow_engine.models import Pause
from workflow_engine.models.compiled import rows_of
from workflow_engine.statuses import PauseScope

# A pause is honoured by every process after so long; in the one that made it at once.
KEPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pauses:
    workflows: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.workflows or self.queues)

    def hold(self, workflow_id: str, queue: str) -> bool:
        """Whether a stage of this workflow in this queue must not start."""
        return workflow_id in self.workflows or queue in self.queues


class PauseCache:
    """The pauses as one process knows them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses, self._until = Pauses(), 0.0
        self._changes = 0

    @property
    def last(self) -> Pauses:
        """The pauses as they were read last."""
        return self._pauses

    def read(self, using: str, *, fresh: bool = False) -> Pauses:
        """Return the pauses; ``fresh``: as they are now, for kernels whose clock stands still."""
        now = time.monotonic()
        if not fresh and now < self._until:
            return self._pauses
        changes, found = self._changes, _read(using)
        with self._lock:
            if changes == self._changes:
                self._pauses, self._until = found, now + KEPT_SECONDS
        return found

    def glance(self, using: str, *, fresh: bool = False) -> Pauses:
        """Return the pauses for a statement that itself sees whether anything is paused: "nothing" may be old."""
        nothing = self._until and not self._pauses
        return self._pauses if nothing and not fresh else self.read(using, fresh=fresh)

    def confirm(self, glanced: Pauses, any_paused: bool) -> bool:
        """Take into account what that statement has seen; False: it went by pauses that are out of date.

        So a worker that looks for work all the time need not ask for pauses besides.
        """
        with self._lock:
            if any_paused and not glanced:
                self._until = 0.0
                return False
            if not any_paused and not self._pauses and self._until:
                self._until = time.monotonic() + KEPT_SECONDS
            return True

    def forget(self) -> None:
        """Read again next time: a pause was made or ended here; a reading under way may not have seen it."""
        with self._lock:
            self._changes += 1
            self._until = 0.0


def _read(using: str) -> Pauses:
    rows = rows_of(using, "pauses", lambda: Pause.objects.using(using).values_list("scope", "name"))
    return Pauses(
        workflows=frozenset(name for scope, name in rows if scope == PauseScope.WORKFLOW),
        queues=frozenset(name for scope, name in rows if scope == PauseScope.QUEUE),
    )
