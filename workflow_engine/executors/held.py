"""The attempts that this process holds, and whether it still does."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field

from workflow_engine.definitions.results import RunCancelledError
from workflow_engine.kernel.started import StartedStage


class Lease:
    """The process's right to go on, on its own monotonic clock: over before the database thinks so."""

    def __init__(self, seconds: float, margin: float) -> None:
        self._length = seconds - margin
        self._until = float("inf")
        self._quiet_until = 0.0

    def renewed(self, sent_at: float) -> None:
        """A renewal sent at ``sent_at`` (``time.monotonic()``) was confirmed."""
        if self.is_over:
            # Everybody was cut off, perhaps: give the others a lease's time to beat first.
            self._quiet_until = time.monotonic() + self._length
        self._until = sent_at + self._length

    @property
    def is_fresh_after_gap(self) -> bool:
        """Whether the process could not beat until a moment ago, so that others' silence says nothing yet."""
        return self.is_over or time.monotonic() < self._quiet_until

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._until


@dataclass(eq=False)
class Held:
    """One attempt in this process. ``lost`` is set once its token is known to be void."""

    stage: StartedStage
    lease: Lease | None = None
    deadline: float | None = None
    lost: threading.Event = field(default_factory=threading.Event)
    # Its body is over its time, and somebody is about to say so.
    timed_out: bool = False
    began: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raise ``RunCancelledError`` once nothing of this attempt will be kept."""
        if self.lost.is_set():
            raise RunCancelledError(f"stage {self.stage.stage_id!r}: the run was cancelled or the attempt was lost")
        if self.lease is not None and self.lease.is_over:
            # Whether it really is lost only the database knows; the stage is given back rather than failed.
            self.lost.set()
            raise RunCancelledError(f"stage {self.stage.stage_id!r}: this worker could not renew its lease in time")


class HeldStages:
    """All attempts of this process. Thread-safe.

    By stage run and token: after a lease was lost the same stage may be taken here again while the body of its
    earlier attempt still occupies a thread.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[uuid.UUID, int], Held] = {}
        self._changed = threading.Condition()

    def add(self, held: Held) -> None:
        with self._changed:
            self._held[_key(held)] = held

    def remove(self, held: Held) -> None:
        with self._changed:
            self._held.pop(_key(held), None)
            self._changed.notify_all()

    def replace(self, old: Held, new: Held) -> None:
        """Let ``new`` stand where ``old`` stood, without the count going down in between."""
        with self._changed:
            self._held.pop(_key(old), None)
            self._held[_key(new)] = new

    def tokens(self) -> dict[uuid.UUID, int]:
        """Return the newest token of each stage run."""
        with self._changed:
            return dict(sorted(self._held, key=lambda key: key[1]))

    def all(self) -> list[Held]:
        with self._changed:
            return list(self._held.values())

    def get(self, stage_run_id: uuid.UUID, token: int) -> Held | None:
        with self._changed:
            return self._held.get((stage_run_id, token))

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)

    def wait_below(self, count: int, timeout: float) -> bool:
        """Wait until fewer than ``count`` are held; False if that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._held) < count, timeout=timeout)


def _key(held: Held) -> tuple[uuid.UUID, int]:
    return held.stage.stage_run_id, held.stage.token
