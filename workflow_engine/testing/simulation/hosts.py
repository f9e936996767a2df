"""Orchestrators and flushers of a schedule."""

from __future__ import annotations

from contextlib import suppress

from django.db import Error

from workflow_engine.definitions.plugins import RunEvent
from workflow_engine.errors import WorkflowEngineError
from workflow_engine.hosts.orchestrator import Orchestrator
from workflow_engine.kernel.commands import FlushOutbox

from .processes import Process
from .settings import TICK_SECONDS
from .world import World

FLUSH_SECONDS, NEXT_SECONDS = 45.0, 4.0


def start_orchestrator(process: Process) -> None:
    world, orchestrator = process.world, Orchestrator(process.kernel, loops=False, batch=100)

    def work() -> None:
        while True:
            # The next tick tries again.
            with suppress(Error, WorkflowEngineError):
                orchestrator.tick()
            world.sleep(TICK_SECONDS * world.chance.uniform(0.2, 1.2))

    process.spawn("tick", work)


def start_flusher(process: Process) -> None:
    world, kernel = process.world, process.kernel

    def work() -> None:
        while True:
            try:
                made = kernel.dispatch(FlushOutbox())
                done = made.delivered + made.handed_on
            except (Error, WorkflowEngineError):
                done = 0
            world.sleep(NEXT_SECONDS if done else FLUSH_SECONDS * world.chance.uniform(0.2, 1.8))

    process.spawn("flush", work)


class Sink:
    """One that hears of all events, and writes down in which order."""

    def __init__(self, world: World, name: str) -> None:
        self.name, self._world = name, world
        self.heard: dict[str, list[int]] = {}
        # Events that it took and said it had not.
        self.denied = 0

    def emit(self, event: RunEvent) -> None:
        world = self._world
        if world.faults.strikes("sink error before", self.name, event.type):
            raise OSError("injected")
        self.heard.setdefault(event.run_id.hex, []).append(event.sequence)
        if world.faults.strikes("sink error after", self.name, event.type):
            self.denied += 1
            raise OSError("injected")
        world.hit("sink.heard")
        world.freeze("late delivery", self.name)
