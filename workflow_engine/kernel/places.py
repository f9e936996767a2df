"""What a worker can take: free places for stages, by kind."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.models import WorkflowRun

from .ports import Ports


@dataclass(frozen=True, slots=True)
class Starter:
    """A worker that can run stages right away: up to ``slots`` of its ``queues`` (None: of every queue)."""

    worker_id: uuid.UUID
    slots: int
    queues: tuple[str, ...] | None = None
    alone: bool = False
    # Room for ``async def`` stages on an event loop; None: there is none, they take slots like the others.
    tasks: int | None = None
    # Not more than so many in all.
    most: int | None = None
    # Room for items of maps, apart from the slots; None: there is none, they take slots like the others.
    items: int | None = None

    def takes(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues

    @property
    def room(self) -> int:
        return self._bounded(self.slots + (self.tasks or 0) + (self.items or 0))

    @property
    def room_for_runs(self) -> int:
        """How many runs can begin: none begins with an item."""
        return self._bounded(self.slots + (self.tasks or 0))

    def _bounded(self, places: int) -> int:
        return places if self.most is None else max(0, min(places, self.most))

    @property
    def takes_items(self) -> bool:
        return self.items is None or self.items > 0 or bool(self.tasks)

    @property
    def takes_others(self) -> bool:
        return self.slots > 0 or bool(self.tasks)


class Places:
    """What is left of a starter's room in one transaction."""

    def __init__(self, starter: Starter, ports: Ports) -> None:
        self.starter, self._ports = starter, ports
        self._pauses = ports.pauses()
        self._left = {False: starter.slots, True: starter.tasks or 0}
        self._most = starter.room
        self._items = starter.items

    def take(self, run: WorkflowRun, stage_id: str, queue: str, *, item: bool = False) -> bool:
        """Take a place for a stage of a run; False: there is none, or it is not for this worker."""
        if not self.starter.takes(queue) or self._pauses.hold(run.workflow, queue):
            return False
        if run.workflow not in self._ports.known_workflows():
            return False
        workflow = self._ports.registry.get_workflow(run.workflow)
        if not workflow.has_stage(stage_id):
            # A deploy under way: it waits for a worker that has it.
            return False
        on_loop = self.starter.tasks is not None and workflow.get_stage(stage_id).runs_on_loop
        apart = item and not on_loop and self._items is not None
        if self._most <= 0 or (self._items if apart else self._left[on_loop]) <= 0:  # type: ignore[operator]
            return False
        self._most -= 1
        if apart and self._items is not None:
            self._items -= 1
        else:
            self._left[on_loop] -= 1
        return True
