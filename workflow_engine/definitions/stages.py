"""``@stage``: a typed function that is one unit of work of a workflow."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, get_args, overload

from workflow_engine.errors import InvalidDefinition

from .conditions import Condition, condition_of
from .context import Cfg, In, Out, StageContext
from .identifiers import MAX_ID_LENGTH, check_id, output_key
from .retry import Retry
from .types import Signature, read_signature
from .waits import CHECK_TIMEOUT, Check, Completion, Wait, read_check

__all__ = ["DEFAULT_QUEUE", "MAX_ID_LENGTH", "Isolation", "Stage", "check_id", "output_key", "stage"]
DEFAULT_QUEUE = "workflows"
Isolation = Literal["thread", "process"]
CheckFunction = TypeVar("CheckFunction", bound=Callable[[Any, Any], Any])


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
    # Retries of completion checks; a check that fails costs nothing of the body's own budget.
    check_retry: Retry = field(default_factory=Retry)
    atomic: bool = False
    when: Condition | None = None
    waits: tuple[Wait[Any], ...] = ()
    # Set by ``check_completion``.
    check: Check | None = field(default=None, init=False, repr=False)

    def __call__(self, ctx: StageContext[In, Cfg]) -> Any:
        """Call the body as the plain function it is, for instance in a test."""
        return self.body(ctx)

    def __repr__(self) -> str:
        return f"<Stage {self.id!r}>"

    @overload
    def check_completion(
        self, body: Callable[[StageContext[In, Cfg], Any], Coroutine[Any, Any, Completion[Out]]], /
    ) -> Callable[[StageContext[In, Cfg], Any], Coroutine[Any, Any, Completion[Out]]]: ...
    @overload
    def check_completion(
        self, body: Callable[[StageContext[In, Cfg], Any], Completion[Out]], /
    ) -> Callable[[StageContext[In, Cfg], Any], Completion[Out]]: ...
    @overload
    def check_completion(self, /, *, timeout: timedelta) -> Callable[[CheckFunction], CheckFunction]: ...
    def check_completion(self, body: Any = None, /, *, timeout: timedelta = CHECK_TIMEOUT) -> Any:
        """Make the decorated ``(ctx, state) -> Completion[Out]`` the check for which the stage calls ``ctx.suspend``.

        It runs outside any transaction, in a lane of its own of the workers that take the stage's queue, and may take
        ``timeout``. What it raises is tried again by the stage's ``check_retry``.

        Raises:
            InvalidDefinition: the stage has a check already, or the function's annotations are wrong.
        """
        names = sys._getframe(1).f_locals

        def decorate(function: Any) -> Any:
            if self.check is not None:
                raise InvalidDefinition(f"Stage {self.id!r} has a completion check already: {self.check.body!r}.")
            # The one thing that is set later: the check names its stage.
            object.__setattr__(self, "check", read_check(self.id, function, timeout, names))
            return function

        return decorate if body is None else decorate(body)

    def get_wait(self, name: str) -> Wait[Any] | None:
        """Return the declared wait of this name, None if there is none."""
        return next((wait for wait in self.waits if wait.name == name), None)

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
    check_retry: Retry | None = None,
    timeout: timedelta | None = None,
    queue: str = DEFAULT_QUEUE,
    isolation: Isolation = "thread",
    atomic: bool = False,
    when: Any = None,
    waits: Sequence[Wait[Any]] = (),
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
        check_retry: retries of the completion check, see ``Stage.check_completion``.
        atomic: what a plain body writes to the engine's database commits exactly if the stage completes.
        when: a condition on outputs of earlier stages, such as ``Output(classify).kind == "invoice"``; if it does not
            hold, the stage is SKIPPED.
        waits: the answers that the body may wait for with ``ctx.wait_for``.

    Raises:
        InvalidDefinition: an argument or annotation is wrong; the text names the stage, the value and the fix.
    """
    check_id("Stage", id)
    where = f"Stage {id!r}"
    for word, policy in (("retry", retry), ("check_retry", check_retry)):
        if policy is not None and not isinstance(policy, Retry):
            raise InvalidDefinition(f"{where}: {word} must be a Retry(...), got {policy!r}.")
    if timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0)):
        raise InvalidDefinition(f"{where}: timeout must be a timedelta above 0, got {timeout!r}.")
    if not isinstance(queue, str) or not queue:
        raise InvalidDefinition(f"{where}: queue must be the name of a queue, got {queue!r}.")
    if isolation not in get_args(Isolation):
        raise InvalidDefinition(f"{where}: isolation must be 'thread' or 'process', got {isolation!r}.")
    if isinstance(dependencies, str | Stage):
        raise InvalidDefinition(f"{where}: dependencies must be a list or tuple, got {dependencies!r}.")

    if not isinstance(atomic, bool):
        raise InvalidDefinition(f"{where}: atomic must be True or False, got {atomic!r}.")
    condition = None if when is None else condition_of(when)
    _check_waits(where, waits)

    def decorate(body: Callable[[StageContext[Any, Any]], Any]) -> Stage[Any, Any, Any]:
        if atomic and (isolation == "process" or inspect.iscoroutinefunction(body)):
            what = "isolation='process'" if isolation == "process" else "an async body"
            raise InvalidDefinition(f"{where}: atomic=True needs a plain def in a thread; it does not go with {what}.")
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
            check_retry=check_retry or Retry(),
            atomic=atomic,
            when=condition,
            waits=tuple(waits),
        )

    return cast(StageDecorator, decorate)


def _check_waits(where: str, waits: Any) -> None:
    if not isinstance(waits, list | tuple) or not all(isinstance(item, Wait) for item in waits):
        # A wait is not shown whole: its default may be nobody's business.
        got = f"the wait {waits.name!r} without a list around it" if isinstance(waits, Wait) else repr(waits)[:200]
        raise InvalidDefinition(f"{where}: waits must be a list of Wait(...), got {got}.")
    names = [item.name for item in waits]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidDefinition(f"{where}: there are two waits named {min(twice)!r}. Names are unique in a stage.")
