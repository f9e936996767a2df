"""What a command is: frozen data in, frozen data out, and a handler that runs it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from workflow_engine.kernel.ports import Ports

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command(Generic[R]):
    """Base of all commands; ``R`` is the type of the result."""

    type: ClassVar[str]


Handler = Callable[[Any, Ports, uuid.UUID], Any]
HANDLERS: dict[type[Command[Any]], Handler] = {}


def handles(command: type[Command[Any]]) -> Callable[[Handler], Handler]:
    """Make the decorated function ``(command, ports, causation_id) -> result`` the command's handler."""

    def enter(handler: Handler) -> Handler:
        HANDLERS[command] = handler
        return handler

    return enter
