"""What a context knows and asks: the facts of an attempt, and the desk behind it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Never, Protocol

if TYPE_CHECKING:
    from .items import Items
    from .waits import Wait

Keys = list[str]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What is known of an attempt before its body starts."""

    run_id: uuid.UUID
    workflow_id: str
    stage_id: str
    stage_name: str
    stage_number: int
    attempt: int
    generation: int
    item_index: int | None
    metadata: Mapping[str, Any]


class StageDesk(Protocol):
    """What the context asks of whoever runs the body. ``log``, ``progress``, ``metric``, ``annotate`` never block."""

    def log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None: ...
    def progress(self, percent: float, message: str, details: Mapping[str, Any]) -> None: ...
    def metric(self, name: str, value: float) -> None: ...
    def annotate(self, key: str, value: Any, actor: str, idempotency_key: str | None, emit_event: bool) -> None: ...
    def artifact(self, name: str, data: Any, content_type: str | None) -> str: ...
    def output_of(self, stage_id: str) -> Any: ...
    def items_of(self, stage_id: str) -> Items[Any]: ...
    def subject(self) -> Any: ...
    def now(self) -> datetime: ...
    def raise_if_cancelled(self) -> None: ...
    def suspend(
        self, state: Any, poll_every: timedelta, max_wait: timedelta | None, first_poll_at: datetime | None
    ) -> Never: ...
    def wait_for(self, wait: Wait[Any]) -> Any: ...
    def run_child(
        self,
        workflow: Any,
        input: Any,
        name: str | None,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Any: ...
    def sleep(self, name: str, until: timedelta | datetime) -> None: ...
    def recall(self, name: str) -> tuple[Any] | None:
        """Return what the sub-step has given before, in a tuple; None: it has not been done."""
        ...

    def remember(self, name: str, value: Any, returns: Any) -> Any:
        """Keep the sub-step's result, and return it as it will be recalled."""
        ...

    def on_complete(self, function: Callable[[], Any]) -> None: ...
    @property
    def storage(self) -> StageStorage: ...


class StageStorage(Protocol):
    """Keys of this run, stage and generation only: two runs never see each other's. Values are JSON or bytes."""

    def save(self, key: str, value: Any) -> None: ...
    def load(self, key: str) -> Any: ...
    def exists(self, key: str) -> bool: ...
    def delete(self, key: str) -> None: ...
    def list(self, prefix: str = "") -> Keys: ...
    async def asave(self, key: str, value: Any) -> None: ...
    async def aload(self, key: str) -> Any: ...
    async def aexists(self, key: str) -> bool: ...
    async def adelete(self, key: str) -> None: ...
    async def alist(self, prefix: str = "") -> Keys: ...


class StageLog:
    """Log lines of the stage, visible in the admin and API while the body still runs. Never blocks."""

    def __init__(self, desk: StageDesk) -> None:
        self._desk = desk

    def debug(self, message: str, **fields: Any) -> None:
        self._desk.log("DEBUG", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._desk.log("INFO", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._desk.log("WARNING", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._desk.log("ERROR", message, fields)
