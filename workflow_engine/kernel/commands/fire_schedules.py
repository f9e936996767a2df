"""``schedule.fire``: what is due by its time happens: commands that were put off, and the runs of schedules."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.schedules.carrying_out import carry_out
from workflow_engine.kernel.schedules.starting import start_due

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class FireSchedulesResult:
    # Commands that were carried out, and runs that were started.
    fired: int
    # Commands that were given up, and schedules whose rows say an error.
    failed: int = 0
    # As much was due as was asked for: there may be more.
    is_full: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FireSchedules(Command[FireSchedulesResult]):
    """Carry out scheduled commands that are due, and start the runs of schedules, each exactly once.

    Any number of callers at a time: what one is at, others leave alone.

    Args:
        max: commands, and as many schedules, that are looked at.

    Raises:
        ExtraMissing: schedules are due, and ``cronsim`` is not installed; the commands were carried out.
    """

    type = "schedule.fire"
    max: int = 100


@handles(FireSchedules)
def fire_schedules(command: FireSchedules, ports: Ports, causation_id: uuid.UUID) -> FireSchedulesResult:
    try:
        carried_out, dead, seen = carry_out(ports, command.max)
    finally:
        # Whatever becomes of the commands.
        started, wrong, looked_at = start_due(ports, command.max)
    return FireSchedulesResult(
        fired=carried_out + started, failed=dead + wrong, is_full=max(seen, looked_at) >= command.max
    )
