"""What a stage's body is given."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, overload

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from .stages import Stage

In = TypeVar("In", default=Any)
Cfg = TypeVar("Cfg", default=None)
Out = TypeVar("Out", default=Any)

Keys = list[str]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_TOKENS = uuid.UUID("6f1b5b0e-6a5e-4f0b-9a2f-3d3f5a2d9c11")


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
    def subject(self) -> Any: ...
    def now(self) -> datetime: ...
    def raise_if_cancelled(self) -> None: ...
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


class StageContext(Generic[In, Cfg]):
    """The input, the config and the tools of one attempt. ``StageContext[In]`` takes no config."""

    def __init__(self, facts: StageFacts, input: In, config: Cfg, desk: StageDesk) -> None:
        self.run_id = facts.run_id
        self.workflow_id = facts.workflow_id
        self.stage_id = facts.stage_id
        self.stage_name = facts.stage_name
        self.stage_number = facts.stage_number
        self.attempt = facts.attempt
        self.generation = facts.generation
        self.item_index = facts.item_index
        self.metadata = facts.metadata
        self.input = input
        self.config = config
        self.log = StageLog(desk)
        self._desk = desk

    @property
    def subject(self) -> Any:
        """The row that the run is about, or None. It is loaded at the first use."""
        return self._desk.subject()

    @property
    def storage(self) -> StageStorage:
        """A place for files and JSON of this run, stage and generation."""
        return self._desk.storage

    @property
    def idempotency_token(self) -> str:
        """A token for outside services: the same for every attempt and rerun of this run, stage and item."""
        return str(uuid.uuid5(_TOKENS, f"{self.run_id}:{self.stage_id}:{self.item_index}"))

    @property
    def generation_token(self) -> str:
        """Like ``idempotency_token``, but new after a rerun: for effects that a rerun must repeat."""
        return str(uuid.uuid5(_TOKENS, f"{self.run_id}:{self.stage_id}:{self.item_index}:{self.generation}"))

    def now(self) -> datetime:
        """The engine's time: frozen in tests, aware, in UTC."""
        return self._desk.now()

    @overload
    def require(self, stage: Stage[Any, Any, Out]) -> Out: ...
    @overload
    def require(self, stage: str) -> Any: ...
    def require(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """Return the output of any earlier stage. Raises ``MissingStageOutput`` (final) naming those there are."""
        return self._desk.output_of(stage if isinstance(stage, str) else stage.id)

    @overload
    def optional(self, stage: Stage[Any, Any, Out]) -> Out | None: ...
    @overload
    def optional(self, stage: str) -> Any: ...
    def optional(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """Return the output of an earlier stage, or None if it has none."""
        from workflow_engine.errors import MissingStageOutput

        try:
            return self._desk.output_of(stage if isinstance(stage, str) else stage.id)
        except MissingStageOutput:
            return None

    def progress(self, percent: float, message: str = "", **details: Any) -> None:
        """Show how far the stage is, 0 to 100; stored at most once a second, so call it as often as you like."""
        self._desk.progress(percent, message, details)

    def metric(self, name: str, value: float) -> None:
        """Record a number beside the stage's result; the last value of a name counts."""
        self._desk.metric(name, value)

    def annotate(
        self,
        key: str,
        value: Any,
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None:
        """Record a fact about the run. It is stored together with the stage's result, also if the stage fails."""
        self._desk.annotate(key, value, actor or "", idempotency_key, emit_event)

    def annotate_many(
        self,
        values: Mapping[str, Any],
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None:
        """Record several facts at once; None values are left out."""
        for key, value in values.items():
            if value is not None:
                self._desk.annotate(key, value, actor or "", idempotency_key, emit_event)

    def artifact(self, name: str, data: Any, *, content_type: str | None = None) -> str:
        """Store a file (bytes, str or an open binary file) and return its key; visible once the stage completed."""
        return self._desk.artifact(name, data, content_type)

    def raise_if_cancelled(self) -> None:
        """Raise ``RunCancelledError`` if the run was cancelled or the attempt was lost. Cheap: call it often."""
        self._desk.raise_if_cancelled()

    @overload
    async def arequire(self, stage: Stage[Any, Any, Out]) -> Out: ...
    @overload
    async def arequire(self, stage: str) -> Any: ...
    async def arequire(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """``require`` for ``async def`` bodies."""
        return await _in_thread(self.require, stage)

    @overload
    async def aoptional(self, stage: Stage[Any, Any, Out]) -> Out | None: ...
    @overload
    async def aoptional(self, stage: str) -> Any: ...
    async def aoptional(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """``optional`` for ``async def`` bodies."""
        return await _in_thread(self.optional, stage)

    async def aartifact(self, name: str, data: Any, *, content_type: str | None = None) -> str:
        """``artifact`` for ``async def`` bodies."""
        return str(await _in_thread(self._desk.artifact, name, data, content_type))

    async def araise_if_cancelled(self) -> None:
        """``raise_if_cancelled`` for ``async def`` bodies."""
        await _in_thread(self.raise_if_cancelled)


async def _in_thread(function: Any, *args: Any) -> Any:
    from asgiref.sync import sync_to_async

    return await sync_to_async(function, thread_sensitive=False)(*args)
