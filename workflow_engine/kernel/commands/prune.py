"""``data.prune``: what is old is deleted, a page at a time."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from workflow_engine.errors import FieldError, InvalidInput, shown
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.pruning import PRUNERS, Place, Pruning
from workflow_engine.kernel.stray_blobs import YOUNGEST
from workflow_engine.statuses import FINISHED_RUN

from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneResult:
    deleted: int
    # Where the next page begins; None: that was the last one.
    place: Place | None = None
    # How many were to go and could not be deleted, and why one of them was not.
    kept: int = 0
    refusal: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prune(Command[PruneResult]):
    """Delete a page of what is old; a later call goes on at ``place``. Any number of callers at a time.

    Args:
        what: ``runs`` with all that belongs to them; ``events`` of runs that have ended; ``logs``; ``keys`` whose run
            is gone; ``workers`` that are; ``bulk`` operations that have ended; ``schedules``: scheduled commands that
            have ended, times whose runs have; ``deliveries``, the log of webhooks; ``limits`` that count no run;
            ``blobs`` that no row refers to.
        older_than: counted from the end of a run or operation, or from when a row was written.
        statuses: of runs and events: only of runs that ended so.
        max: rows (of runs and events: runs) of a page.
        dry_run: count what would be looked at, and delete nothing.
        once: of blobs: names a pass that only the first who begins with it makes. Others find nothing to delete.

    Raises:
        InvalidInput: the text names the argument.
    """

    type = "data.prune"
    what: str
    older_than: timedelta
    statuses: tuple[str, ...] = FINISHED_RUN
    max: int = 200
    after: Place | None = None
    dry_run: bool = False
    once: str = ""


@handles(Prune)
def prune(command: Prune, ports: Ports, causation_id: uuid.UUID) -> PruneResult:
    problems = []
    if command.what not in PRUNERS:
        problems.append(FieldError("what", f"must be one of {', '.join(PRUNERS)}, got {shown(command.what)}"))
    if command.older_than < timedelta(0):
        problems.append(FieldError("older_than", f"must be 0 or more, got {command.older_than}"))
    if command.what == "blobs" and timedelta(0) <= command.older_than < YOUNGEST:
        problems.append(FieldError("older_than", f"must be an hour or more of blobs, got {command.older_than}"))
    if wrong := [status for status in command.statuses if status not in FINISHED_RUN]:
        problems.append(FieldError("statuses", f"must be of {', '.join(FINISHED_RUN)}, got {', '.join(wrong)}"))
    if problems:
        raise InvalidInput("data.prune", problems)
    page = PRUNERS[command.what](
        Pruning(
            ports=ports,
            causation_id=causation_id,
            older_than=command.older_than,
            statuses=command.statuses,
            most=command.max,
            after=command.after,
            dry_run=command.dry_run,
            once=command.once,
        )
    )
    return PruneResult(deleted=page.deleted, place=page.place, kept=page.kept, refusal=page.refusal)
