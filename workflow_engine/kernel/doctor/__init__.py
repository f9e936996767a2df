"""The doctor: every invariant that can be asked of the tables of a living system. Only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from workflow_engine.kernel.ports import Ports

from . import deliveries, families, limits, moving, runs, schedules
from .codes import CODES, Code, Severity
from .findings import Finding, Report
from .rows import floors_of, stray_rows
from .rules import RULES
from .rules.quiet import RULES as QUIET
from .rules.quiet import gone_events

__all__ = ["CODES", "MOST_RUNS", "Code", "Finding", "Report", "Severity", "examine", "find_violations"]
MOST_RUNS = 5_000
# Rows of one table that are looked at for each run.
ROWS_PER_RUN = 10
# Each asks what is open, by an index on that, and is not read further than its findings are wanted.
CHECKS: tuple[Callable[[Ports], Iterator[Finding]], ...] = (
    moving.lost_stages,
    moving.untaken_stages,
    moving.unclaimed_runs,
    moving.overslept_stages,
    moving.overdue_runs,
    moving.forgotten_questions,
    moving.unknown_definitions,
    moving.drifting_runs,
    families.unheard_children,
    families.undelivered_notices,
    deliveries.events_not_handed_on,
    deliveries.overdue_deliveries,
    limits.limits_exceeded,
    limits.free_places,
    schedules.overdue_commands,
    schedules.overdue_schedules,
    schedules.wrong_schedules,
)


def examine(
    ports: Ports,
    *,
    limit: int = 100,
    most_runs: int | None = MOST_RUNS,
    blobs: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look for what is wrong.

    Args:
        limit: findings of one code; of what is cut, ``Report.cut`` tells.
        most_runs: runs that are looked at one by one: so many that are open, and so many of all, the newest first.
            None: every run.
        blobs: ask the blob store for what these runs refer to, too.
        progress: is told how many runs were looked at, page by page.
    """
    found: list[Finding] = []
    counts: Counter[str] = Counter()

    def keep(one: Finding) -> bool:
        counts[one.code] += 1
        if counts[one.code] <= limit:
            found.append(one)
        return counts[one.code] <= limit

    for check in CHECKS:
        for one in check(ports):
            if not keep(one):
                break
    floors = None if most_runs is None else floors_of(ports, most_runs * ROWS_PER_RUN)
    for one in stray_rows(ports, floors=floors):
        keep(one)
    seen = 0
    pages = _Pages(ports, most_runs)
    for page in pages:
        for one in runs.look_at(ports, page, RULES, blobs=blobs):
            keep(one)
        seen += len(page)
        if progress is not None:
            progress(seen)
    order = {code: number for number, code in enumerate(CODES)}
    return Report(
        findings=tuple(sorted(found, key=lambda one: order[one.code])),
        cut=tuple(code for code in CODES if counts[code] > limit),
        runs_seen=seen,
        all_runs_seen=pages.saw_all,
    )


class _Pages:
    """The runs to look at, none twice: those that are open, and the newest."""

    def __init__(self, ports: Ports, most: int | None) -> None:
        self.ports = ports
        self.most = most
        self.saw_all = True

    def __iter__(self) -> Iterator[list[UUID]]:
        done: set[UUID] = set()
        if self.most is not None:
            living = runs.open_runs(self.ports, self.most)
            done.update(living)
            for start in range(0, len(living), runs.PAGE):
                yield living[start : start + runs.PAGE]
        left = self.most
        # One more than are looked at: then it is known whether there are others.
        for page in runs.newest(self.ports, None if left is None else left + 1):
            if left is not None:
                self.saw_all = len(page) <= left
                page = page[:left]
                left -= len(page)
            yield [run_id for run_id in page if run_id not in done]


def find_violations(
    ports: Ports,
    *,
    run_ids: Sequence[UUID] | None = None,
    quiet: bool = False,
    blobs: bool = False,
    whole: bool = False,
) -> list[Finding]:
    """Return what must never be so, of all runs or of these; not bounded, for small databases.

    Args:
        quiet: everybody has done their work: every run has ended, and nothing is left to be told.
        blobs: ask the blob store, too.
        whole: no events were deleted.
    """
    rules = (*RULES, *(QUIET if quiet else ()), *((gone_events,) if whole else ()))
    pages = runs.newest(ports, None) if run_ids is None else [run_ids]
    found = [] if run_ids is not None else list(stray_rows(ports, quiet=quiet))
    for page in pages:
        found += runs.look_at(ports, page, rules, blobs=blobs)
    return found
