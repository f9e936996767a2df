"""What runs and stages are after each command, in plain Python: the statuses that the engine must come to as well.

Nothing here knows of databases, locks or messages. Times are left out but for deadlines; which of the due stages start
is the engine's choice, and that it may start them is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

OWNER = -1
OPEN_STAGE = ("PENDING", "RUNNING", "SUSPENDED")
OPEN_RUN = ("PENDING", "RUNNING")
DONE = ("COMPLETED", "SKIPPED")


@dataclass(eq=False)
class Unit:
    """A stage, or an item of a mapped one."""

    stage: str
    group: int
    index: int = OWNER
    status: str = "PENDING"
    wait: str = ""
    until: datetime | None = None
    # What somebody was given to work on; None: nobody's result counts.
    holder: Any = None
    worker: Any = None
    alone: bool = False
    suspect: bool = False
    crashes: int = 0
    answered: list[str] = field(default_factory=list)

    def leave(self, status: str, wait: str = "", until: datetime | None = None) -> None:
        self.status, self.wait, self.until, self.holder, self.worker = status, wait, until, None, None


@dataclass(eq=False)
class Run:
    """``groups``: the ids of each group's stages."""

    workflow: str
    groups: list[list[str]]
    mapped: frozenset[str]
    conditional: frozenset[str]
    hasty: frozenset[int]
    status: str = "PENDING"
    generation: int = 0
    paused: bool = False
    deadline: datetime | None = None
    # The stage that has started it.
    parent: Unit | None = None
    units: list[Unit] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_RUN

    def statuses(self) -> dict[tuple[str, int], str]:
        return {(unit.stage, unit.index): unit.status for unit in self.units}

    def find(self, stage: str, index: int = OWNER) -> Unit:
        return next(unit for unit in self.units if (unit.stage, unit.index) == (stage, index))

    def begin(self, deadline: datetime | None) -> None:
        assert self.status == "PENDING" and not self.paused
        self.status, self.deadline = "RUNNING", deadline
        self._open(1)

    def start(self, unit: Unit, holder: Any, worker: Any, *, alone: bool) -> None:
        assert self.status == "RUNNING" and not self.paused, f"{unit.stage} started in a {self.status} run"
        assert unit.status == "PENDING", f"{unit.stage} was {unit.status}"
        assert alone or not unit.suspect, f"{unit.stage} is a suspect and runs in company"
        unit.leave("RUNNING")
        unit.holder, unit.worker, unit.alone = holder, worker, alone

    def skip(self, unit: Unit) -> None:
        assert unit.stage in self.conditional and unit.status == "PENDING" and not self.paused
        unit.leave("SKIPPED")
        self._settle(unit.group)

    def complete(self, unit: Unit) -> None:
        unit.leave("COMPLETED")
        self._ended(unit)

    def fail_unit(self, unit: Unit) -> None:
        unit.leave("FAILED")
        self._ended(unit)

    def put_back(self, unit: Unit) -> None:
        unit.leave("PENDING")
        self._stop_if_failing(unit)

    def suspend(self, unit: Unit, wait: str, until: datetime | None) -> None:
        unit.leave("SUSPENDED", wait, until)
        self._stop_if_failing(unit)

    def expand(self, unit: Unit, total: int) -> None:
        unit.leave("SUSPENDED", "items")
        self.units += [Unit(unit.stage, unit.group, index) for index in range(total)]
        self._end_map(unit.stage)

    def cancel(self) -> bool:
        if not self.is_open:
            return False
        self._cancel_units()
        self._end("CANCELLED")
        return True

    def expire(self) -> None:
        self._cancel_units()
        self._end("FAILED")

    def can_rerun(self, stage: str) -> bool:
        number = self._group_of(stage)
        done = [unit.stage for unit in self.units if unit.index == OWNER and unit.status in DONE]
        return not self.is_open and all(one in done for group in self.groups[: number - 1] for one in group)

    def rerun(self, stage: str, deadline: datetime | None) -> None:
        number = self._group_of(stage)
        self.units = [unit for unit in self.units if unit.group < number]
        self.status, self.deadline = "RUNNING", deadline
        self.generation += 1
        self._open(number)

    def _group_of(self, stage: str) -> int:
        return next(number for number, group in enumerate(self.groups, 1) if stage in group)

    def _open(self, number: int) -> None:
        self.units += [Unit(stage, number) for stage in self.groups[number - 1]]

    def _ended(self, unit: Unit) -> None:
        if unit.index == OWNER:
            self._settle(unit.group)
        else:
            self._stop_if_failing(unit)
            self._end_map(unit.stage)

    def _settle(self, number: int) -> None:
        group = [unit for unit in self.units if unit.group == number and unit.index == OWNER]
        failed = any(unit.status == "FAILED" for unit in group)
        if any(unit.status in OPEN_STAGE for unit in group):
            if not (failed and number in self.hasty):
                return
            self._cancel_units()
        if failed:
            self._end("FAILED")
        elif number < len(self.groups):
            self._open(number + 1)
        else:
            self._end("COMPLETED")

    def _items(self, stage: str) -> Iterator[Unit]:
        return (unit for unit in self.units if unit.stage == stage and unit.index != OWNER)

    def _is_failing(self, stage: str) -> bool:
        return any(unit.status == "FAILED" for unit in self._items(stage))

    def _stop_if_failing(self, unit: Unit) -> None:
        """Once an item has failed none starts any more; those that run come to their end."""
        if unit.index == OWNER or not self._is_failing(unit.stage):
            return
        _cancel(one for one in self._items(unit.stage) if one.status in ("PENDING", "SUSPENDED"))
        self._end_map(unit.stage)

    def _end_map(self, stage: str) -> None:
        owner = self.find(stage)
        if owner.status != "SUSPENDED" or any(unit.status in OPEN_STAGE for unit in self._items(stage)):
            return
        owner.leave("FAILED" if self._is_failing(stage) else "COMPLETED")
        self._settle(owner.group)

    def _cancel_units(self) -> None:
        _cancel(unit for unit in self.units if unit.status in OPEN_STAGE)

    def _end(self, status: str) -> None:
        self.status, self.paused = status, False


def _cancel(units: Iterable[Unit]) -> None:
    for unit in list(units):
        unit.leave("CANCELLED")
