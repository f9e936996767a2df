"""Breaking the engine on purpose: what mutants are made of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

Break = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect. ``why`` says what was taken away.

    ``covers``: names of the mutants that take away what else prevents the same, if it does nothing alone.
    ``hidden``: why nobody can see it at all, as long as anything else is left.
    """

    name: str
    why: str
    apply: Break
    covers: tuple[str, ...] = ()
    hidden: str = ""

    def __call__(self) -> AbstractContextManager[Any]:
        return self.apply()


MUTANTS: dict[str, Mutant] = {}


def mutant(
    why: str, *, covers: tuple[str, ...] = (), hidden: str = ""
) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Make a mutant of a generator that breaks something, yields, and mends it; its name is the function's."""

    def register(function: Callable[[], Iterator[None]]) -> None:
        name = function.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(name, why, contextmanager(function), covers, hidden)

    return register


@contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a class or module."""
    before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def everywhere(function: Any, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a function by ``make(function)`` in every module of the engine that has imported it."""
    new, changed = make(function), []
    for module in [item for name, item in sys.modules.items() if name.startswith("workflow_engine") and item]:
        for name, value in list(vars(module).items()):
            if value is function:
                setattr(module, name, new)
                changed.append((module, name))
    try:
        yield
    finally:
        for module, name in changed:
            setattr(module, name, function)


@contextmanager
def handler(command: type, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace what a command does by ``make(what it did)``."""
    from workflow_engine.kernel.commands import HANDLERS

    before = HANDLERS[command]
    HANDLERS[command] = make(before)
    try:
        yield
    finally:
        HANDLERS[command] = before
