"""``ctx.suspend``, ``ctx.wait_for`` and ``ctx.sleep``: how a body ends its attempt to wait for something."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Never

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from workflow_engine.definitions.results import StageSuspended, Suspension
from workflow_engine.definitions.stages import Stage
from workflow_engine.definitions.types import DataType
from workflow_engine.definitions.waits import Wait
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput, InvalidPayload, shown
from workflow_engine.kernel.payloads import pack
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import MemoKind

from .memory import Memory, check_name
from .storage import attempt_root

LONGEST = timedelta(days=365 * 100)


class Waiting:
    """What one attempt may wait for, and what its stage remembers of earlier waits."""

    def __init__(self, ports: Ports, stage: StartedStage, memory: Memory) -> None:
        self._ports, self._stage, self._memory = ports, stage, memory

    def recall(self) -> None:
        """Read now what the stage remembers."""
        self._memory.read()

    @property
    def _definition(self) -> Stage[Any, Any, Any]:
        return self._ports.registry.get_workflow(self._stage.workflow_id).get_stage(self._stage.stage_id)

    def suspend(
        self, state: Any, poll_every: timedelta, max_wait: timedelta | None, first_poll_at: datetime | None
    ) -> Never:
        """Raises ``StageSuspended``; ``InvalidDefinition``, ``InvalidInput``, ``InvalidPayload`` for what is wrong."""
        definition = self._definition
        if definition.check is None:
            raise InvalidDefinition(
                f"Stage {definition.id!r} calls ctx.suspend() but has no completion check. "
                "Decorate a function with @stage.check_completion."
            )
        self._refuse_odd_times(poll_every, max_wait, first_poll_at)
        data = _state_as_json(definition, state)
        root = attempt_root(self._stage)
        envelope = pack(
            data,
            lambda digest: f"{root}state-{digest}.json",
            self._ports.blobs,
            self._ports.limits,
            f"the state of stage {definition.id!r}",
        )
        first = {"wake_in": poll_every} if first_poll_at is None else {"wake_at": first_poll_at}
        raise StageSuspended(Suspension("poll", state=envelope, max_wait=max_wait, poll_every=poll_every, **first))

    def _refuse_odd_times(self, poll_every: Any, max_wait: Any, first_poll_at: Any) -> None:
        problems = []
        if not _is_span(poll_every) or poll_every <= timedelta(0):
            problems.append(
                FieldError(
                    "poll_every", f"must be a timedelta above 0 (at most 100 years), got {shown(poll_every)}"[:200]
                )
            )
        if max_wait is not None and (not _is_span(max_wait) or max_wait <= timedelta(0)):
            problems.append(
                FieldError(
                    "max_wait", f"must be a timedelta above 0 (at most 100 years), or None, got {shown(max_wait)}"[:200]
                )
            )
        if first_poll_at is not None and not _is_aware(first_poll_at):
            text = f"must be a time with a time zone, got {shown(first_poll_at)}"[:200]
            problems.append(FieldError("first_poll_at", text))
        if problems:
            raise InvalidInput(f"ctx.suspend() in stage {self._stage.stage_id!r}", problems)

    def wait_for(self, wait: Wait[Any]) -> Any:
        """Return the answer as its type makes it. Raises ``StageSuspended`` if there is none yet."""
        if not isinstance(wait, Wait) or self._definition.get_wait(wait.name) is not wait:
            raise InvalidDefinition(
                f"Stage {self._stage.stage_id!r} waits for {getattr(wait, 'name', wait)!r}, which it does not declare. "
                "Add it to the stage's waits=[…]."
            )
        memo = self._memory.get(MemoKind.ANSWER, wait.name)
        if memo is not None:
            return wait.data.read(Envelope(memo.value).raw(self._ports.blobs))
        raise StageSuspended(Suspension("answer", wait.name, max_wait=wait.max_wait))

    def sleep(self, name: str, until: timedelta | datetime) -> None:
        """Return if this sleep is over. Raises ``StageSuspended`` if it begins."""
        check_name(name, f"a sleep in stage {self._stage.stage_id!r}")
        if not (_is_span(until) or _is_aware(until)):
            problem = FieldError(
                "until", f"must be a timedelta (at most 100 years) or a time with a time zone, got {shown(until)}"[:200]
            )
            raise InvalidInput(f"the sleep {name!r} in stage {self._stage.stage_id!r}", [problem])
        if self._memory.get(MemoKind.TIMER, name) is not None:
            # A stage goes on after a sleep only when the database says that it is over.
            return
        if isinstance(until, timedelta):
            if until > timedelta(0):
                raise StageSuspended(Suspension("timer", name, wake_in=until))
        elif until > self._ports.clock.now():
            raise StageSuspended(Suspension("timer", name, wake_at=until))


def _state_as_json(definition: Stage[Any, Any, Any], state: Any) -> Any:
    """Return the state as JSON that the check can read. Raises ``InvalidPayload``."""
    what = f"state of stage {definition.id!r}"
    kind = DataType(Any, what) if definition.check is None else definition.check.state
    try:
        return kind.write(state)
    except InvalidPayload as error:
        raise InvalidPayload(f"{what}.{error.path}".rstrip("."), error.problem) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join([what, *map(str, first["loc"])])
        raise InvalidPayload(path, f"does not fit the type of the check's state: {first['msg']}") from error
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InvalidPayload(what, f"{type(state).__name__} cannot be written as JSON") from error


def _is_span(value: Any) -> bool:
    return isinstance(value, timedelta) and value <= LONGEST


def _is_aware(value: Any) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None
