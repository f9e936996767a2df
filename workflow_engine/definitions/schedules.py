"""Schedules that are declared in code, beside the workflows that they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workflow_engine.errors import InvalidDefinition

from .context import In, Out
from .identifiers import check_id
from .workflows import Workflow

_schedules: dict[str, DeclaredSchedule] = {}


@dataclass(frozen=True)
class DeclaredSchedule:
    """What ``wfe_schedules sync`` makes a row of. Made by ``declare_schedule``."""

    name: str
    workflow: Workflow[Any, Any]
    cron: str
    timezone: str = "UTC"
    input: Any = None
    overlap: str = "skip"
    catch_up: str = "one"


def declare_schedule(
    name: str,
    workflow: Workflow[In, Out],
    cron: str,
    *,
    timezone: str = "UTC",
    input: Any = None,
    overlap: str = "skip",
    catch_up: str = "one",
) -> DeclaredSchedule:
    """Say in code that a workflow is to be run at the times of a cron expression.

    Nothing happens before ``manage.py wfe_schedules sync`` has made a row of it, which belongs to every deploy. The
    arguments are those of ``create_schedule``; a system check says what is wrong with them.

    Raises:
        InvalidDefinition: the name is no id or is taken, or there is no built workflow.
    """
    check_id("Schedule", name)
    if not isinstance(workflow, Workflow):
        raise InvalidDefinition(f"Schedule {name!r} needs a built workflow, got {workflow!r}. Did you forget .build()?")
    declared = DeclaredSchedule(name, workflow, cron, timezone, input, overlap, catch_up)
    if _schedules.setdefault(name, declared) is not declared:
        raise InvalidDefinition(f"A schedule {name!r} is declared already. Rename one of the two.")
    return declared


def declared_schedules() -> list[DeclaredSchedule]:
    """Return every schedule that is declared in code, by name."""
    return [_schedules[name] for name in sorted(_schedules)]


@contextmanager
def schedules_override(*schedules: DeclaredSchedule) -> Iterator[None]:
    """Let only these be declared inside the block. For tests."""
    before = dict(_schedules)
    _schedules.clear()
    _schedules.update({one.name: one for one in schedules})
    try:
        yield
    finally:
        _schedules.clear()
        _schedules.update(before)
