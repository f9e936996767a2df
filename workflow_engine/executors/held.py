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

    def renewed(self, sent_at: float) -> None:
        """A renewal sent at ``sent_at`` (``time.monotonic()``) was confirmed."""
        self._until = sent_at + self._length

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
    """All attempts of this process, by stage run. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[uuid.UUID, Held] = {}
        self._changed = threading.Condition()

    def add(self, held: Held) -> None:
        with self._changed:
            self._held[held.stage.stage_run_id] = held

    def remove(self, held: Held) -> None:
        with self._changed:
            if self._held.get(held.stage.stage_run_id) is held:
                del self._held[held.stage.stage_run_id]
            self._changed.notify_all()

    def replace(self, old: Held, new: Held) -> None:
        """Let ``new`` stand where ``old`` stood, without the count going down in between."""
        with self._changed:
            if self._held.get(old.stage.stage_run_id) is old:
                del self._held[old.stage.stage_run_id]
            self._held[new.stage.stage_run_id] = new

    def tokens(self) -> dict[uuid.UUID, int]:
        with self._changed:
            return {pk: held.stage.token for pk, held in self._held.items()}

    def all(self) -> list[Held]:
        with self._changed:
            return list(self._held.values())

    def get(self, stage_run_id: uuid.UUID) -> Held | None:
        with self._changed:
            return self._held.get(stage_run_id)

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)

    def wait_below(self, count: int, timeout: float) -> bool:
        """Wait until fewer than ``count`` are held; False if that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._held) < count, timeout=timeout)
