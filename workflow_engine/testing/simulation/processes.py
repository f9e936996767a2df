"""Processes of a schedule and the tasks in them: what one process holds dies with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from workflow_engine.bootstrap import use_kernel
from workflow_engine.kernel import Kernel, points

if TYPE_CHECKING:
    from .world import World

# Injected deaths with one stage in hand: fewer than it is given up after, so that a healthy one never is.
MOST_DEATHS = 2
HELD = "SELECT id FROM workflow_engine_stagerun WHERE worker = ? ORDER BY id"
Work = Callable[[], None]
Start = Callable[["Process"], None]


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, name: str, work: Work) -> None:
        self.process, self.name, self._work = process, f"{process.name}.{name}", work
        self.wake, self.hears_bells = 0.0, False
        # A stage's body or check is being run, and by which attempt.
        self.held: Any = None
        self.is_check = False
        self.crash: BaseException | None = None
        # Whoever spawns it is not whom it returns to: it would go on in its place.
        self.greenlet = greenlet(self._run, parent=process.world.hub)

    def _run(self) -> None:
        try:
            with use_kernel(self.process.kernel):
                self._work()
        except points.Crash as crash:
            self.crash = crash


@dataclass(eq=False)
class Process:
    """One that can be killed and is started anew, as another one, by ``start``."""

    world: World
    name: str
    start: Start
    kernel: Kernel
    skew: float = 0.0
    # What stands in the rows that it holds.
    worker: str = ""
    boots: int = 0
    is_dead: bool = False
    stalled_until: float = 0.0
    tasks: list[Task] = field(default_factory=list)
    # Ids of the stage runs that it knows it holds.
    held: Callable[[], set[str]] = set

    def is_spared(self) -> bool:
        """Whether it holds a stage with which others have died often enough."""
        return any(self.world.deaths[row] >= MOST_DEATHS for row in self._rows())

    def note_death(self) -> None:
        self.world.troubles[self.name] += 1
        for row in self._rows():
            self.world.deaths[row] += 1

    def stall(self, seconds: float) -> None:
        """Stop all of its tasks for a while; then they go on as if nothing had been."""
        self.note_death()
        self.stalled_until = self.world.seconds + seconds

    def _rows(self) -> set[str]:
        if not self.worker:
            return set()
        return {*self.held(), *(row for (row,) in self.world.database.rows(HELD, self.worker))}

    def spawn(self, name: str, work: Work) -> Task:
        task = Task(self, name, work)
        task.wake = self.world.seconds
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """End all of its tasks where they are."""
        self.is_dead = True
        for task in self.tasks:
            if task.greenlet and not task.greenlet.dead:
                task.greenlet.throw(points.Crash)
        self.tasks.clear()


@contextmanager
def running(task: Task, held: Any, *, check: bool = False) -> Iterator[None]:
    """Let the world know which attempt a task is running."""
    task.held, task.is_check = held, check
    try:
        yield
    finally:
        task.held, task.is_check = None, False
