"""``@stage``: a typed function that is one unit of work of a workflow."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, cast, get_args, overload

from workflow_engine.errors import InvalidDefinition

from .context import Cfg, In, Out, StageContext
from .retry import Retry
from .types import Signature, read_signature

DEFAULT_QUEUE = "workflows"
Isolation = Literal["thread", "process"]
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
MAX_ID_LENGTH = 100


@dataclass(frozen=True, eq=False)
class Stage(Generic[In, Cfg, Out]):
    """One unit of work: a body and what the engine must know of it. Made by ``@stage``, never by hand."""

    id: str
    name: str
    description: str
    body: Callable[[StageContext[In, Cfg]], Any]
    signature: Signature = field(repr=False)
    dependencies: tuple[str, ...] = ()
    retry: Retry = field(default_factory=Retry)
    timeout: timedelta | None = None
    queue: str = DEFAULT_QUEUE
    isolation: Isolation = "thread"

    def __call__(self, ctx: StageContext[In, Cfg]) -> Any:
        """Call the body as the plain function it is, for instance in a test."""
        return self.body(ctx)

    def __repr__(self) -> str:
        return f"<Stage {self.id!r}>"

    @property
    def runs_on_loop(self) -> bool:
        """Whether the body shares an event loop with others, and so takes no thread of its own."""
        return self.is_async and self.isolation == "thread"

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.body)

    @property
    def key(self) -> str:
        """The name under which a group's mapping holds this stage's output: the id with ``-`` as ``_``."""
        return output_key(self.id)

    @property
    def takes_input(self) -> bool:
        return self.signature.input.type is not None


class StageDecorator(Protocol):
    """Turns a body into a ``Stage`` of the types in its annotations."""

    @overload
    def __call__(self, body: Callable[[StageContext[In, Cfg]], Coroutine[Any, Any, Out]], /) -> Stage[In, Cfg, Out]: ...
    @overload
    def __call__(self, body: Callable[[StageContext[In, Cfg]], Out], /) -> Stage[In, Cfg, Out]: ...


def stage(
    id: str,
    *,
    name: str = "",
    description: str = "",
    dependencies: Sequence[str | Stage[Any, Any, Any]] = (),
    retry: Retry | None = None,
    timeout: timedelta | None = None,
    queue: str = DEFAULT_QUEUE,
    isolation: Isolation = "thread",
) -> StageDecorator:
    """Make a stage of a function ``(ctx: StageContext[In, Cfg]) -> Out``, plain or ``async``.

    Args:
        id: lower-case words of letters and digits, joined by ``-``; unique in its workflow.
        dependencies: stages that must stand in earlier groups; checked when the workflow is built.
        timeout: time for one attempt. A plain body in a thread cannot be stopped: at the deadline its attempt fails
            (code ``TIMEOUT``) and whatever it still returns is dropped. An ``async`` one is cancelled at its next
            await, one in a process of its own is killed.
        queue: logical queue, mapped by the setting ``QUEUES``.
        isolation: ``"process"`` runs the body in another process, which may be killed or die without harm to others.

    Raises:
        InvalidDefinition: an argument or annotation is wrong; the text names the stage, the value and the fix.
    """
    check_id("Stage", id)
    where = f"Stage {id!r}"
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidDefinition(f"{where}: retry must be a Retry(...), got {retry!r}.")
    if timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0)):
        raise InvalidDefinition(f"{where}: timeout must be a timedelta above 0, got {timeout!r}.")
    if not isinstance(queue, str) or not queue:
        raise InvalidDefinition(f"{where}: queue must be the name of a queue, got {queue!r}.")
    if isolation not in get_args(Isolation):
        raise InvalidDefinition(f"{where}: isolation must be 'thread' or 'process', got {isolation!r}.")
    if isinstance(dependencies, str | Stage):
        raise InvalidDefinition(f"{where}: dependencies must be a list or tuple, got {dependencies!r}.")

    def decorate(body: Callable[[StageContext[Any, Any]], Any]) -> Stage[Any, Any, Any]:
        # The caller's local names: stages may be defined inside a function, with types defined there too.
        signature = read_signature(id, body, sys._getframe(1).f_locals)
        return Stage(
            id=id,
            name=name or id.replace("-", " ").capitalize(),
            description=description or inspect.getdoc(body) or "",
            body=body,
            signature=signature,
            dependencies=tuple(item if isinstance(item, str) else item.id for item in dependencies),
            retry=retry or Retry(),
            timeout=timeout,
            queue=queue,
            isolation=isolation,
        )

    return cast(StageDecorator, decorate)


def check_id(what: str, id: Any) -> None:
    if not isinstance(id, str) or not _ID.match(id) or len(id) > MAX_ID_LENGTH:
        raise InvalidDefinition(
            f"{what} id {id!r}: an id is lower-case words of letters and digits joined by '-', "
            f"at most {MAX_ID_LENGTH} characters, such as 'extract-text'."
        )


def output_key(stage_id: str) -> str:
    return stage_id.replace("-", "_")
