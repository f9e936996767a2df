"""What ``crash_test`` has found, for people and for assertions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .lines import Line


@dataclass(frozen=True, slots=True)
class Death:
    """Where the worker died: before a line of a body, or at a crash point of the engine, at its ``hit``-th pass."""

    # Whose body had begun last; empty: none.
    stage_id: str
    point: str = ""
    hit: int = 1
    line: Line | None = None
    # The line of this stage that was run just before.
    after: Line | None = None

    def __str__(self) -> str:
        return f"{self.point} ({self.hit})" if self.line is None else f"line {self.line.number}: {self.line.text}"


@dataclass(frozen=True, slots=True)
class Repeated:
    """An effect that was done another number of times than without a death."""

    death: Death
    effect: str
    expected: float
    found: float


@dataclass(frozen=True, slots=True)
class Unsafe:
    """A stage that is not safe to repeat.

    ``line``: after which line a death first shows it, so most likely the one to look at; None: the body was over.
    """

    stage_id: str
    effect: str
    expected: float
    found: float
    line: Line | None

    def __str__(self) -> str:
        where = f", after {self.line}" if self.line is not None else ""
        return f"{self.stage_id}: {self.effect} {self.found:g} instead of {self.expected:g}{where}"


@dataclass(frozen=True, slots=True)
class CrashReport:
    """How a workflow stands up to the death of its workers."""

    workflow_id: str
    # How it ends if nobody dies, and what it has done then.
    status: str
    effects: Mapping[str, float]
    # How often a worker was let die.
    deaths: int
    repeated: tuple[Repeated, ...]
    # Deaths after which the run ended otherwise, with the status that it had then.
    changed: tuple[tuple[Death, str], ...]

    @property
    def unsafe(self) -> tuple[Unsafe, ...]:
        """The stages that are not safe to repeat, with each effect once."""
        found: dict[tuple[str, str], Unsafe] = {}
        for one in self.repeated:
            key = (one.death.stage_id, one.effect)
            line = one.death.after
            if key not in found or (found[key].line is None and line is not None):
                found[key] = Unsafe(one.death.stage_id, one.effect, one.expected, one.found, line)
        return tuple(found.values())

    @property
    def is_safe(self) -> bool:
        return not self.repeated and not self.changed

    def check(self) -> None:
        """Raise ``AssertionError`` with the whole report unless every death left the run as it would have been."""
        assert self.is_safe, str(self)

    def __str__(self) -> str:
        head = f"{self.workflow_id}: {self.deaths} deaths, {len(self.repeated)} with effects that are not right"
        lines = [f"  not safe to repeat: {one}" for one in self.unsafe]
        lines += [f"  ended as {status} instead of {self.status} after {death}" for death, status in self.changed]
        return "\n".join([head, *lines])
