"""A kernel with subscribers, for tests of deliveries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.workflows import chain
from workflow_engine import create_run
from workflow_engine.bootstrap import use_kernel
from workflow_engine.definitions import RunEvent
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import FlushOutbox, FlushOutboxResult
from workflow_engine.kernel.ports import Limits
from workflow_engine.models import WorkflowRun
from workflow_engine.testing import CollectingEventSink, FakeClock, Subscriber, create_test_kernel


class Refused(Exception):
    """Raised by a sink that takes nothing."""


class Moody(CollectingEventSink):
    """Refuses what ``refuses`` says, and counts how often it was asked."""

    def __init__(self, refuses: Callable[[RunEvent], bool] = lambda event: False) -> None:
        super().__init__(self._refuse)
        self.refuses, self.asked = refuses, Counter[str]()

    def _refuse(self, event: RunEvent) -> None:
        self.asked[event.id] += 1
        if self.refuses(event):
            raise Refused(f"not {event.type}")

    def heard(self, run: WorkflowRun) -> list[int]:
        return [event.sequence for event in self.events if event.run_id == run.pk]


class Hearing:
    """Sinks by name, each a subscriber of a test kernel."""

    def __init__(self, clock: FakeClock, *, tries: int = 3, **filters: dict[str, Any]) -> None:
        self.clock, self.filters = clock, filters
        self.sinks: dict[str, Moody] = {name: Moody() for name in filters}
        self.kernel: Kernel = create_test_kernel(
            clock=clock,
            limits=Limits(max_event_tries=tries),
            subscribers=[
                Subscriber(name, sink, timeout=5, **filters[name])  # type: ignore[arg-type]
                for name, sink in self.sinks.items()
            ],
        )
        self.using = use_kernel(self.kernel)

    def __enter__(self) -> Hearing:
        self.using.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.using.__exit__(*error)

    def __getitem__(self, name: str) -> Moody:
        return self.sinks[name]

    def flush(self, **given: Any) -> FlushOutboxResult:
        return self.kernel.dispatch(FlushOutbox(**given))

    def flush_all(self) -> FlushOutboxResult:
        while (made := self.flush()).more:
            pass
        return made

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


def new_run(**options: Any) -> WorkflowRun:
    return create_run("chain", {"value": 1}, **options)


CHAIN = chain(2)
# run.created, run.started, stage.started, stage.completed, stage.started, stage.completed, run.completed
EVENTS_OF_CHAIN = 7
