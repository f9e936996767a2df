"""The crash matrix: which points each plan passes, and at which of them a worker process is killed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workflow_engine.kernel.points import (
    BLOB_PUT,
    CHILD_IN_TX,
    CLAIM_AFTER,
    CLAIM_IN_TX,
    COMPLETE_AFTER,
    COMPLETE_BEFORE,
    COMPLETE_IN_TX,
    EXEC_CLAIMED,
    EXEC_MID,
    EXEC_RETURNED,
    MAP_IN_TX,
    NOTICE_AFTER,
    NOTICE_IN_TX,
    POLL_AFTER,
    POLL_CHECKED,
    POLL_CLAIMED,
    POLL_IN_TX,
    SKIP_IN_TX,
    START_AFTER,
    START_IN_TX,
    WAKE_IN_TX,
)

CLAIM = (CLAIM_IN_TX, CLAIM_AFTER)
START = (START_IN_TX, START_AFTER)
STAGE = (EXEC_CLAIMED, EXEC_RETURNED, COMPLETE_BEFORE, COMPLETE_IN_TX, COMPLETE_AFTER)
POLL = (POLL_CLAIMED, POLL_CHECKED, POLL_IN_TX, POLL_AFTER)

# Plan -> points that its worker passes once, and those that it passes twice at least. A test compares it with what a
# worker does that nobody kills.
PASSES = {
    "line": (CLAIM, (*STAGE, EXEC_MID, BLOB_PUT)),
    "1→8→1": ((*CLAIM, *START), (*STAGE, EXEC_MID, BLOB_PUT)),
    "suspension": ((*CLAIM, SKIP_IN_TX, BLOB_PUT), (*START, *STAGE, EXEC_MID, WAKE_IN_TX, *POLL)),
    "approval": ((*CLAIM, WAKE_IN_TX), (*START, *STAGE)),
    "map": ((MAP_IN_TX,), (*CLAIM, *START, *STAGE, EXEC_MID, CHILD_IN_TX, NOTICE_IN_TX, NOTICE_AFTER)),
    "atomic": ((*CLAIM, BLOB_PUT), (*STAGE, EXEC_MID)),
}
# Further on: in the middle of a family, and after the COMMIT of what follows an atomic stage.
DEEP = (("map", COMPLETE_IN_TX, 8), ("map", COMPLETE_AFTER, 8), ("map", CHILD_IN_TX, 3), ("atomic", COMPLETE_AFTER, 3))


@dataclass(frozen=True)
class Case:
    plan: str
    point: str
    hit: int

    def __str__(self) -> str:
        return f"{self.plan}-{self.point}-{self.hit}"


def chosen(backend: str) -> list[Case]:
    """Return what is run on a database: all of it on PostgreSQL, and anywhere with ``WFE_FULL_MATRIX``.

    SQLite has the first passes and the deep ones, MariaDB a dozen of all.
    """
    everything = all_cases()
    if backend == "postgresql" or os.environ.get("WFE_FULL_MATRIX"):
        return everything
    if backend == "sqlite":
        return [case for case in everything if case.hit != 2]
    return everything[:: len(everything) // 11]


def all_cases() -> list[Case]:
    passed = [
        Case(plan, point, hit)
        for plan, (once, twice) in PASSES.items()
        for hits, group in (((1,), once), ((1, 2), twice))
        for point in group
        for hit in hits
    ]
    return passed + [Case(*case) for case in DEEP]
