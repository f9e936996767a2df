"""What a worker process has room for: slots for stages, places for items of maps, tasks on its event loop."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from workflow_engine.executors.held import Held, HeldStages
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.ports import Ports

from .runner import Runner

# Where bodies take less than half a millisecond, so many wait here for each thread: they share transactions.
QUICK_FACTOR = 4
# One slot in so many, at least one, is not for items of maps.
RESERVED_SHARE = 8


class Room:
    """Counts what is held here. ``most_jobs``: so many attempts in all; then nothing more is taken."""

    def __init__(
        self,
        ports: Ports,
        worker_id: uuid.UUID,
        held: HeldStages,
        runner: Runner,
        *,
        slots: int,
        tasks: int,
        queues: tuple[str, ...] | None,
        most_jobs: int | None,
    ) -> None:
        self._ports, self._worker_id, self._held, self._runner = ports, worker_id, held, runner
        self._slots, self._tasks, self._queues, self._most_jobs = slots, tasks, queues, most_jobs

    def starter(self) -> Starter:
        """Return what there is room for."""
        return self._starter(self.free_slots, self._free_tasks, self.free_items)

    def after(self, ended: Sequence[Held]) -> Starter:
        """Return what there is room for in the places of those that end."""
        items, tasks = sum(held.is_item for held in ended), sum(held.on_loop for held in ended)
        slots = len(ended) - tasks if self._slots == 1 else len(ended) - tasks - items
        return self._starter(slots, tasks + min(0, self._free_tasks), self.free_items + items)

    def is_there(self) -> bool:
        return self.free_slots > 0 or self.free_items > 0

    @property
    def free_slots(self) -> int:
        """How many slots are free for what is no item of a map."""
        return self._size - self._others - min(self._held.items, self._size - self._reserve)

    @property
    def free_items(self) -> int:
        """How many more items of maps this process may hold.

        Short ones wait here for a thread, as they share transactions then. With a single slot they take that.
        """
        if self._slots == 1:
            return 0
        places = self._size - max(self._others, self._reserve)
        more = self._size == self._slots and self._runner.has_short_items and self._most_jobs is None
        return places * (QUICK_FACTOR if more else 1) - self._held.items

    @property
    def threads_for_items(self) -> int:
        """How many threads run items at the same time: however many of them hang, others have one."""
        return max(1, self._slots - max(1, self._slots // RESERVED_SHARE))

    def _starter(self, slots: int, tasks: int, items: int) -> Starter:
        has_loop = bool(self._ports.loop_stages())
        return Starter(
            worker_id=self._worker_id,
            slots=max(0, slots),
            tasks=max(0, tasks) if has_loop else None,
            most=None if self._most_jobs is None else self._most_jobs - self._runner.finished - len(self._held),
            queues=self._queues,
            alone=self._slots == 1 and not has_loop,
            items=None if self._slots == 1 else max(0, items),
        )

    @property
    def _free_tasks(self) -> int:
        return self._tasks - (len(self._held) - self._held.in_slots)

    @property
    def _others(self) -> int:
        return self._held.in_slots - self._held.items

    @property
    def _reserve(self) -> int:
        """How many slots items of maps leave to others: a wide map must not hold up short runs."""
        return 0 if self._slots == 1 else max(1, self._size // RESERVED_SHARE)

    @property
    def _size(self) -> int:
        """How many stages this process holds at most, besides those on its event loop."""
        quick = self._slots > 1 and self._most_jobs is None and self._runner.is_quick
        return self._slots * QUICK_FACTOR if quick else self._slots
