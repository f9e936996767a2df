"""The attempts that this process holds, and whether it still does."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from workflow_engine.definitions.results import RunCancelledError
from workflow_engine.kernel.started import StartedStage

# A run whose stages have followed each other for longer than this is not short.
SHORT_SECONDS = 0.1


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


# Held for an instant: who enters a body and who gives the attempt away must not both succeed.
_entering = threading.Lock()


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
    # How many stages went on one after the other up to this one, and since when: others must have their turn.
    chain: int = 1
    chain_began: float = field(default_factory=time.monotonic)
    # Its body was entered, or is about to be.
    begun: bool = False
    # It runs on the event loop and so takes none of the slots.
    on_loop: bool = False

    @property
    def is_item(self) -> bool:
        """It is one of a map's items, and takes a slot."""
        return self.stage.item_index is not None and not self.on_loop

    def enter(self) -> bool:
        """Begin with the body; False: the attempt was given away while it waited for a thread."""
        with _entering:
            if self.lost.is_set():
                return False
            self.begun = True
            self.began = time.monotonic()
            return True

    def give_away(self) -> bool:
        """Let go of an attempt whose body was not entered; False: it was."""
        with _entering:
            if self.begun:
                return False
            self.lost.set()
            return True

    def check(self) -> None:
        """Raise ``RunCancelledError`` once nothing of this attempt will be kept."""
        if self.lost.is_set():
            raise RunCancelledError(f"stage {self.stage.stage_id!r}: the run was cancelled or the attempt was lost")
        if self.timed_out:
            raise RunCancelledError(f"stage {self.stage.stage_id!r}: the body took longer than its timeout")
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
        self._in_slots = 0
        self._items = 0
        # When the last one came that is no item of a map.
        self._other_at = -math.inf
        self._changed = threading.Condition()

    def add(self, held: Held) -> None:
        self.exchange((), (held,))

    def remove(self, held: Held) -> None:
        self.exchange((held,), ())

    def exchange(self, ended: Iterable[Held], following: Iterable[Held]) -> list[Held]:
        """Let what follows stand where others have ended, as one change; return what was not held before."""
        with self._changed:
            gone = [one for held in ended if (one := self._held.pop(_key(held), None)) is not None]
            new = [held for held in following if _key(held) not in self._held]
            self._held.update((_key(held), held) for held in new)
            if any(not held.is_item for held in new):
                self._other_at = time.monotonic()
            self._in_slots += sum(not held.on_loop for held in new) - sum(not held.on_loop for held in gone)
            self._items += sum(held.is_item for held in new) - sum(held.is_item for held in gone)
            self._changed.notify_all()
        return new

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

    @property
    def in_slots(self) -> int:
        """How many take a slot: all but those on the event loop."""
        return self._in_slots

    @property
    def items(self) -> int:
        """How many of those in slots are items of maps."""
        return self._items

    def __len__(self) -> int:
        return len(self._held)

    def wait_below(self, count: int, timeout: float) -> bool:
        """Wait until fewer than ``count`` slots are taken; False if that took longer than ``timeout`` seconds."""
        return self.wait_for(lambda: self._in_slots < count, timeout)

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition on what is held is true; False if that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout=timeout)

    @property
    def others_since(self) -> float:
        """For how many seconds nothing has come but items of maps."""
        return time.monotonic() - self._other_at

    def wait_for_short_runs(self, timeout: float) -> None:
        """Wait until nothing is held that has begun just now and is no item of a map; at most ``timeout`` seconds."""

        def none_left() -> bool:
            if len(self._held) == self._items:
                return True
            since = time.monotonic() - SHORT_SECONDS
            return not any(held.chain_began > since and not held.is_item for held in self._held.values())

        with self._changed:
            self._changed.wait_for(none_left, timeout=timeout)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; False if that took longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, timeout=timeout)


def _key(held: Held) -> tuple[uuid.UUID, int]:
    return held.stage.stage_run_id, held.stage.token
