"""Who wants to hear of events, as the kernel knows them: a name, a filter, and where to send them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workflow_engine.definitions.plugins import RunEvent
from workflow_engine.event_types import EVENT_TYPES


class EventSink(Protocol):
    """Where events go."""

    def emit(self, event: RunEvent) -> None:
        """Deliver the event, or raise: then it was not delivered, and comes again later. Any thread may call this.

        ``DeliveryRefused`` says when.
        """
        ...


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One that hears of events by itself: its failures are nobody else's.

    ``name`` stands for it in the database. ``types`` and ``workflows`` None: of all.
    """

    name: str
    sink: EventSink
    types: frozenset[str] | None = None
    workflows: frozenset[str] | None = None
    # Seconds that one delivery may take.
    timeout: float = 30
    # None: as often as the settings say of events.
    max_tries: int | None = None
    # It has no thread of its own: there are many of its kind, and what it does ends in time by itself.
    shares_threads: bool = False

    def wants(self, event_type: str, workflow_id: str) -> bool:
        return (self.types is None or event_type in self.types) and (
            self.workflows is None or workflow_id in self.workflows
        )


# What was committed: run, workflow, type, payload.
Committed = tuple[uuid.UUID, str, str, Mapping[str, Any]]


class Announcer(Protocol):
    """Tells this process what was committed by it, best effort."""

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens; otherwise nothing is gathered."""
        ...

    def tell(self, committed: Sequence[Committed]) -> None:
        """Never raises."""
        ...


class Together:
    """Several sources as one: the same tuple as long as each of them returns the same."""

    def __init__(self, *sources: Callable[[], tuple[Subscriber, ...]]) -> None:
        self._sources = sources
        # One value, so that threads never mix two states.
        self._state: tuple[tuple[tuple[Subscriber, ...], ...], tuple[Subscriber, ...]] = ((), ())

    def __call__(self) -> tuple[Subscriber, ...]:
        found = tuple(source() for source in self._sources)
        seen, known = self._state
        if len(found) != len(seen) or any(one is not other for one, other in zip(found, seen, strict=True)):
            known = tuple(one for part in found for one in part)
            self._state = (found, known)
        return known


GLANCE_SECONDS = 60.0


class Subscribers:
    """All subscribers of a process, and whoever delivers to them here.

    ``source`` returns the same tuple as long as nothing has changed. ``forget``: what it has read may be out of date.
    """

    def __init__(
        self,
        source: Callable[[], tuple[Subscriber, ...]] = tuple,
        *,
        announcer: Announcer | None = None,
        forget: Callable[[], None] | None = None,
    ) -> None:
        self._source, self.announcer, self._forget = source, announcer, forget
        self._known: tuple[Subscriber, ...] = ()
        self._read_at = -GLANCE_SECONDS
        self._types: frozenset[str] = frozenset()
        self._listeners: tuple[Callable[[], None], ...] = ()

    def glance(self) -> tuple[Subscriber, ...]:
        """Return those that were known a minute ago or less: for whoever looks again and again at nothing."""
        return self._known if time.monotonic() - self._read_at < GLANCE_SECONDS else self.all()

    def all(self) -> tuple[Subscriber, ...]:
        asked_at = time.monotonic()
        known = self._source()
        self._read_at = asked_at
        if known is not self._known:
            wanted = [EVENT_TYPES if one.types is None else one.types for one in known]
            self._types, self._known = frozenset().union(*wanted), known
        return known

    @property
    def may_go(self) -> bool:
        """Whether what somebody wanted to hear of may be for nobody in the end."""
        return self._forget is not None

    def forget(self) -> None:
        """Read again who there is: it was changed in this process."""
        self._read_at = -GLANCE_SECONDS
        if self._forget is not None:
            self._forget()

    def get(self, name: str) -> Subscriber | None:
        return next((one for one in self.all() if one.name == name), None)

    def want(self, event_type: str, workflow_id: str) -> bool:
        """Whether anybody hears of such events."""
        if not self.all() or event_type not in self._types:
            return False
        return any(one.wants(event_type, workflow_id) for one in self._known)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after a commit in this process that brought news; return what ends that."""
        self._listeners = (*self._listeners, wake)

        def stop() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not wake)

        return stop

    def wake(self) -> bool:
        """News were committed. False: nobody in this process delivers."""
        listeners = self._listeners
        for wake in listeners:
            wake()
        return bool(listeners)
