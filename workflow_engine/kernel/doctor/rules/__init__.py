"""The rules: what must hold of every run at every moment, asked of a run that was read with all that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from workflow_engine.kernel.doctor.findings import Finding
from workflow_engine.kernel.doctor.reading import Record

from . import attempts, events, runs, stages

Rule = Callable[[Record], Iterator[Finding]]
RULES: tuple[Rule, ...] = (*runs.RULES, *stages.RULES, *attempts.RULES, *events.RULES)


def judge(record: Record, rules: tuple[Rule, ...] = RULES) -> Iterator[Finding]:
    """Yield what is wrong with a run."""
    for rule in rules:
        yield from rule(record)
