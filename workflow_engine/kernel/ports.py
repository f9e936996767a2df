"""What the kernel asks of the world. Each port has adapters in a folder of its own; Django is the port for the rest."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from workflow_engine.errors import WorkflowNotFound
from workflow_engine.models.base import read_clock

from .pausing import PauseCache, Pauses
from .subscribers import Subscribers
from .webhooks.targets import Target, TargetRules

if TYPE_CHECKING:
    from workflow_engine.definitions import Workflow
    from workflow_engine.definitions.results import Result


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker process says of itself."""

    id: uuid.UUID
    name: str
    host: str
    pid: int
    version: str
    slots: int
    queues: tuple[str, ...] | None = None
    workflows: tuple[str, ...] = ()
    # Workflow id -> the stages that its code has, those that are retired too.
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """A doorbell: something is due in ``queue``; ``stage_run_id`` is a hint. It may be lost, doubled or late."""

    queue: str
    stage_run_id: uuid.UUID | None = None


class JobTransport(Protocol):
    """Carries messages. Whatever it loses, the database still knows.

    The methods with a body are what a worker process tells its transport; an adapter that inherits from this class
    needs only those in which it differs.
    """

    def push(self, messages: Sequence[Message]) -> None:
        """Wake whoever waits for these messages. Called after commit: never raises, never waits for long."""
        ...

    def pop(self, wait: float) -> list[Message]:
        """Return what arrived, waiting at most ``wait`` seconds for it; an empty list is always allowed."""
        ...

    def ack(self, message: Message) -> None: ...
    def depth(self, queue: str) -> int: ...
    def epoch(self) -> str:
        """A value that changes when the transport has lost its memory."""
        ...

    def attach(self, worker: WorkerFacts) -> None:
        """This process has a worker from now on: what is pushed for its queues wakes ``pop``."""
        return

    def detach(self) -> None:
        """The worker is gone."""
        return

    def beat(self, running: int, finished: int) -> None:
        """The worker lives; it runs and has finished so many attempts. Called often."""
        return

    def refill(self, queues: Sequence[str]) -> None:
        """Something has been due in these queues for a while: ring again where no message is waiting."""
        return

    @property
    def polls(self) -> bool:
        """Whether nobody may ring just now, so that a worker must look for itself every moment."""
        return True

    @property
    def suspended(self) -> bool:
        """Whether workers are told to take nothing for now."""
        return False


class BlobStore(Protocol):
    """Bytes under keys that are written once."""

    def put(self, key: str, data: bytes) -> str:
        """Store and return the key under which it really lies."""
        ...

    def get(self, key: str) -> bytes:
        """Raises ``BlobNotFound``."""
        ...

    def has(self, key: str) -> bool: ...
    def delete(self, key: str) -> None:
        """Forget the key; one that is not there is fine."""
        ...

    def delete_folder(self, folder: str) -> int:
        """Forget all keys that begin with ``folder`` and a slash, and the folder itself where there is such a thing.

        Returns how many keys there were.
        """
        ...

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in ``folder``, in no order."""
        ...

    def list(self, prefix: str) -> list[str]: ...


class Clock(Protocol):
    """Time. ``db_now`` is an expression in the database's time; a frozen clock gives a constant."""

    def now(self) -> datetime: ...
    def db_now(self) -> Any: ...
    def pause(self, seconds: float) -> None:
        """Wait before a transaction is tried again."""
        ...


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What came of a request; ``status`` None: no answer came, and ``error`` says why. ``body`` is its beginning."""

    status: int | None = None
    error: str = ""
    body: bytes = b""
    retry_after: str = ""
    duration_ms: int = 0
    timed_out: bool = False


class WebhookSender(Protocol):
    """Makes requests to webhooks."""

    def send(self, target: Target, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        """POST the body, in bounded time; never raises for what is wrong there. Any thread may call this."""
        ...


class NoWebhooks:
    """Sends nothing, for kernels that were given no sender."""

    def send(self, target: Target, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        return WebhookAnswer(error="This kernel was made without a sender of webhooks.")


class Registry(Protocol):
    """The workflows this process knows."""

    def get_workflow(self, workflow_id: str) -> Workflow[Any, Any]:
        """Raises ``WorkflowNotFound``."""
        ...

    def registered_workflows(self) -> list[Workflow[Any, Any]]: ...


class ActivityExecutor(Protocol):
    """Runs the body of an attempt that this process holds, outside any transaction.

    ``held.stage`` is the ``StartedStage``. Never raises for what the body does: that is in the result.
    """

    def run(self, held: Any) -> Result: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings the kernel needs, read once per kernel. Sizes in bytes, times in seconds."""

    inline_payload_bytes: int = 64 * 1024
    max_payload_bytes: int = 50 * 1024 * 1024
    lease_seconds: float = 30
    beat_seconds: float = 10
    max_crashes: int = 3
    idempotency_wait_seconds: float = 10
    unknown_grace_seconds: float = 3600
    max_map_items: int = 10_000
    # Items of a map under way at the same time, where the map does not say.
    max_parallel: int = 100
    max_child_depth: int = 10
    max_event_tries: int = 5
    webhook_timeout: float = 10
    webhook_max_attempts: int = 8
    webhook_disable_days: float = 5
    webhook_targets: TargetRules = field(default_factory=TargetRules)
    # Keys are kept this long at least, and their runs with them.
    idempotency_keep_days: float = 7


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a command handler may reach."""

    using: str
    clock: Clock
    transport: JobTransport
    blobs: BlobStore
    registry: Registry
    limits: Limits = Limits()
    pause_cache: PauseCache = field(default_factory=PauseCache, repr=False, compare=False)
    subscribers: Subscribers = field(default_factory=Subscribers, repr=False, compare=False)
    sender: WebhookSender = field(default_factory=NoWebhooks, repr=False, compare=False)

    @property
    def is_frozen(self) -> bool:
        """Whether the clock is a test's, and not the database's own."""
        return not hasattr(self.clock.db_now(), "resolve_expression")

    def read_time(self) -> datetime:
        """Return the time by which it is decided what is due: the database's, or a frozen clock's."""
        return self.clock.now() if self.is_frozen else read_clock(self.using)

    def known_workflows(self) -> list[str]:
        return [workflow.id for workflow in self.registry.registered_workflows()]

    def is_limited(self, workflow_id: str) -> bool:
        """Whether the workflow, as the code here has it, limits its runs."""
        try:
            return self.registry.get_workflow(workflow_id).concurrency is not None
        except WorkflowNotFound:
            return False

    def known_stages(self) -> dict[str, tuple[str, ...]]:
        """Return the stages that can be executed here, by workflow; those that are retired too."""
        known = self.registry.registered_workflows()
        return {item.id: (*item.stage_ids, *(stage.id for stage in item.retired)) for item in known}

    def pauses(self) -> Pauses:
        """Return which workflows and queues are paused, as they were less than a second ago."""
        return self.pause_cache.read(self.using, fresh=self.is_frozen)

    def pauses_known(self) -> Pauses:
        """Return the pauses as they were read last, however long ago; asks nothing of the database."""
        return self.pause_cache.last

    def glance_at_pauses(self) -> Pauses:
        """``pauses`` for a statement that also asks whether there are any; its answer goes to ``confirm_pauses``."""
        return self.pause_cache.glance(self.using, fresh=self.is_frozen)

    def confirm_pauses(self, glanced: Pauses, any_paused: bool) -> bool:
        """Return False if the statement went by pauses that are out of date: then it is to be asked again."""
        return self.pause_cache.confirm(glanced, any_paused)

    def takable_workflows(self, pauses: Pauses | None = None) -> list[str]:
        """Return the known workflows of which something may start now."""
        paused = (self.pauses() if pauses is None else pauses).workflows
        return [workflow_id for workflow_id in self.known_workflows() if workflow_id not in paused]

    def loop_stages(self) -> dict[str, tuple[str, ...]]:
        """Return the stages that run on an event loop, by workflow; workflows without any are left out."""
        return {item.id: item.loop_stages for item in self.registry.registered_workflows() if item.loop_stages}
