"""What a stage's body is given."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Never, overload

from typing_extensions import TypeVar

from .annotations import AnnotationKey, read_annotation
from .desk import StageDesk, StageFacts, StageLog, StageStorage

if TYPE_CHECKING:
    from .items import Items
    from .stages import Stage
    from .waits import Answer, Wait
    from .workflows import Workflow

In = TypeVar("In", default=Any)
Cfg = TypeVar("Cfg", default=None)
Out = TypeVar("Out", default=Any)

Value = TypeVar("Value")
POLL_EVERY, MAX_WAIT = timedelta(seconds=30), timedelta(hours=24)
_TOKENS = uuid.UUID("6f1b5b0e-6a5e-4f0b-9a2f-3d3f5a2d9c11")


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

    @overload
    def items(self, stage: Stage[Any, Any, Out]) -> Items[Out]: ...
    @overload
    def items(self, stage: str) -> Items[Any]: ...
    def items(self, stage: Stage[Any, Any, Any] | str) -> Items[Any]:
        """Return what an earlier, mapped stage has given for its items, in their order; it is read as you iterate.

        Raises:
            MissingStageOutput: the stage was not mapped, or has not ended. Final.
        """
        return self._desk.items_of(stage if isinstance(stage, str) else stage.id)

    def progress(self, percent: float, message: str = "", **details: Any) -> None:
        """Show how far the stage is, 0 to 100; stored at most once a second, so call it as often as you like."""
        self._desk.progress(percent, message, details)

    def metric(self, name: str, value: float) -> None:
        """Record a number beside the stage's result; the last value of a name counts."""
        self._desk.metric(name, value)

    @overload
    def annotate(
        self,
        key: AnnotationKey[Value],
        value: Value | None,
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None: ...
    @overload
    def annotate(
        self,
        key: str,
        value: Any,
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None: ...
    def annotate(
        self,
        key: Any,
        value: Any,
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None:
        """Record a fact about the run. It is stored together with the stage's result, also if the stage fails.

        ``key`` is text, or a typed key such as ``Decision.OUTCOME``, which refuses values of another type.
        """
        name, checked = read_annotation(key, value)
        self._desk.annotate(name, checked, actor or "", idempotency_key, emit_event)

    def annotate_many(
        self,
        values: Mapping[Any, Any],
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        emit_event: bool = False,
    ) -> None:
        """Record several facts at once; None values are left out."""
        for key, value in values.items():
            if value is not None:
                self.annotate(key, value, actor=actor, idempotency_key=idempotency_key, emit_event=emit_event)

    def artifact(self, name: str, data: Any, *, content_type: str | None = None) -> str:
        """Store a file (bytes, str or an open binary file) and return its key; visible once the stage completed."""
        return self._desk.artifact(name, data, content_type)

    def suspend(
        self,
        state: Any = None,
        *,
        poll_every: timedelta = POLL_EVERY,
        max_wait: timedelta | None = MAX_WAIT,
        first_poll_at: datetime | None = None,
    ) -> Never:
        """End the attempt and wait for work that goes on elsewhere; ``check_completion`` asks whether it is done.

        Args:
            state: what the check needs to know, as JSON (or what pydantic writes as JSON).
            poll_every: time between two checks.
            max_wait: the stage fails (code ``WAIT_EXPIRED``) when it is not done then; None: no limit.
            first_poll_at: the first check, aware; default: after ``poll_every``.

        Raises:
            InvalidPayload: ``state`` cannot be stored as JSON. Final, like every wrong argument.
            InvalidDefinition: the stage has no completion check.
        """
        self._desk.suspend(state, poll_every, max_wait, first_poll_at)

    def wait_for(self, wait: Wait[Answer]) -> Answer:
        """Return the answer to a declared wait; without one the stage is suspended until it comes.

        After the answer the body runs again from its top, so do what must not be repeated in ``once``. Nothing is
        occupied meanwhile: no thread, no worker, no message.

        Raises:
            InvalidDefinition: the wait is not among the stage's ``waits``.
        """
        return self._desk.wait_for(wait)  # type: ignore[no-any-return]

    @overload
    def run_child(
        self,
        workflow: Workflow[Any, Out],
        input: Any = None,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Out: ...
    @overload
    def run_child(
        self,
        workflow: str,
        input: Any = None,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any: ...
    def run_child(
        self,
        workflow: Workflow[Any, Any] | str,
        input: Any = None,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run another workflow and return its output; the stage is suspended until that run has ended.

        The body runs again from its top then, so do what must not be repeated in ``once``. There is exactly one child
        run of a name per stage run: attempts that follow find it, a rerun of the stage starts another one. Cancelling
        this run cancels the child.

        Args:
            workflow: the definition or its id.
            name: what this stage calls the child, unique in the stage; None: the workflow's id.
            config, metadata: as of ``create_run``.

        Raises:
            ChildFailed: the child failed or was cancelled. Final, unless the body catches it.
            InvalidInput, InvalidConfig, WorkflowNotFound: no run was started.
            ChildTooDeep: runs would start runs more deeply than ``MAX_CHILD_DEPTH``. Final.
        """
        return self._desk.run_child(workflow, input, name, config, metadata)

    def sleep(self, delta: timedelta, *, name: str = "sleep") -> None:
        """Wait for seconds or months without holding a worker.

        The due time is stored at the first call; the body runs again from its top then, and later calls of this name
        return at once. So give each sleep of a body a name of its own.
        """
        self._desk.sleep(name, delta)

    def sleep_until(self, when: datetime, *, name: str = "sleep") -> None:
        """``sleep`` until an aware time; one that has passed is no wait."""
        self._desk.sleep(name, when)

    def once(self, name: str, function: Callable[[], Value], *, returns: Any = None) -> Value:
        """Call ``function`` and keep its result; attempts that follow get the result without a call.

        At least once until the result is stored, never again after it. ``name`` is unique in the stage.

        Args:
            returns: the type of the result, if it is not plain JSON; default: what the function's annotation says.
        """
        known = self._desk.recall(name)
        if known is not None:
            return _typed(known[0], function, returns)  # type: ignore[no-any-return]
        return _typed(self._desk.remember(name, function(), returns), function, returns)  # type: ignore[no-any-return]

    def on_complete(self, function: Callable[[], Any]) -> None:
        """Call ``function()`` inside the transaction that completes the stage: what it writes to the engine's database
        happens exactly once. If it raises, the attempt fails and nothing is kept.
        """
        self._desk.on_complete(function)

    def raise_if_cancelled(self) -> None:
        """Raise ``RunCancelledError`` if the run was cancelled or the attempt was lost. Cheap: call it often."""
        self._desk.raise_if_cancelled()

    @overload
    async def arequire(self, stage: Stage[Any, Any, Out]) -> Out: ...
    @overload
    async def arequire(self, stage: str) -> Any: ...
    async def arequire(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """``require`` for ``async def`` bodies."""
        return await in_thread(self.require, stage)

    @overload
    async def aoptional(self, stage: Stage[Any, Any, Out]) -> Out | None: ...
    @overload
    async def aoptional(self, stage: str) -> Any: ...
    async def aoptional(self, stage: Stage[Any, Any, Any] | str) -> Any:
        """``optional`` for ``async def`` bodies."""
        return await in_thread(self.optional, stage)

    @overload
    async def aitems(self, stage: Stage[Any, Any, Out]) -> Items[Out]: ...
    @overload
    async def aitems(self, stage: str) -> Items[Any]: ...
    async def aitems(self, stage: Stage[Any, Any, Any] | str) -> Items[Any]:
        """``items`` for ``async def`` bodies: ``async for value in await ctx.aitems(stage)``."""
        return await in_thread(self.items, stage)  # type: ignore[no-any-return]

    async def asuspend(self, state: Any = None, **options: Any) -> Never:
        """``suspend`` for ``async def`` bodies."""
        self.suspend(state, **options)

    async def await_for(self, wait: Wait[Answer]) -> Answer:
        """``wait_for`` for ``async def`` bodies."""
        return await in_thread(self.wait_for, wait)  # type: ignore[no-any-return]

    async def arun_child(self, workflow: Workflow[Any, Out] | str, input: Any = None, **options: Any) -> Out:
        """``run_child`` for ``async def`` bodies."""
        return await in_thread(partial(self.run_child, workflow, input, **options))  # type: ignore[no-any-return]

    async def asleep(self, delta: timedelta, *, name: str = "sleep") -> None:
        """``sleep`` for ``async def`` bodies."""
        await in_thread(self._desk.sleep, name, delta)

    async def asleep_until(self, when: datetime, *, name: str = "sleep") -> None:
        """``sleep_until`` for ``async def`` bodies."""
        await in_thread(self._desk.sleep, name, when)

    async def aonce(self, name: str, function: Callable[[], Awaitable[Value]], *, returns: Any = None) -> Value:
        """``once`` for ``async def`` bodies; ``function`` is ``async`` too."""
        known = await in_thread(self._desk.recall, name)
        value = known[0] if known is not None else None
        if known is None:
            value = await in_thread(self._desk.remember, name, await function(), returns)
        return _typed(value, function, returns)  # type: ignore[no-any-return]

    async def aartifact(self, name: str, data: Any, *, content_type: str | None = None) -> str:
        """``artifact`` for ``async def`` bodies."""
        return str(await in_thread(self._desk.artifact, name, data, content_type))

    async def araise_if_cancelled(self) -> None:
        """``raise_if_cancelled`` for ``async def`` bodies."""
        await in_thread(self.raise_if_cancelled)


def _typed(value: Any, function: Callable[..., Any], returns: Any) -> Any:
    from .types import read_result

    return read_result(value, function, returns)


async def in_thread(function: Any, *args: Any) -> Any:
    from asgiref.sync import sync_to_async

    return await sync_to_async(function, thread_sensitive=False)(*args)
