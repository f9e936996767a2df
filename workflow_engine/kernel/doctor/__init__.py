"""The doctor: every invariant that can be asked of the tables of a living system. Only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from workflow_engine.kernel.ports import Ports

from . import deliveries, families, histories, limits, moving, schedules, states
from .findings import Finding, Report, Severity

__all__ = ["Finding", "Report", "Severity", "examine"]
MOST_RUNS = 20_000
# Each is one query or two, and is not read further than its findings are wanted.
CHECKS: tuple[Callable[[Ports], Iterator[Finding]], ...] = (
    states.unknown_statuses,
    states.impossible_statuses,
    states.ends_without_time,
    states.open_in_ended_runs,
    states.ahead_of_their_run,
    states.open_in_old_generations,
    histories.without_data,
    moving.stuck_runs,
    moving.lost_stages,
    moving.overslept_stages,
    moving.overdue_runs,
    moving.forgotten_questions,
    moving.unknown_definitions,
    moving.drifting_runs,
    families.miscounted_maps,
    families.open_items_of_ended_maps,
    families.unheard_children,
    families.undelivered_notices,
    deliveries.events_not_handed_on,
    deliveries.overdue_deliveries,
    limits.limits_exceeded,
    limits.free_places,
    limits.held_back_for_nothing,
    schedules.overdue_commands,
    schedules.overdue_schedules,
    schedules.wrong_schedules,
)
# Each is asked of a page of runs.
PAGED = (histories.wrong_histories, histories.unreadable_rows, histories.unfinished_plans)


def examine(ports: Ports, *, limit: int = 100, most_runs: int = MOST_RUNS) -> Report:
    """Look for what is wrong.

    Args:
        limit: findings of one code; of what is cut, ``Report.cut`` tells.
        most_runs: runs whose events and plans are looked at, the newest first.
    """
    found: list[Finding] = []
    counts: Counter[str] = Counter()

    def keep(finding: Finding) -> bool:
        counts[finding.code] += 1
        if counts[finding.code] <= limit:
            found.append(finding)
        return counts[finding.code] <= limit

    for check in CHECKS:
        for finding in check(ports):
            if not keep(finding):
                break
    seen = 0
    for page in histories.pages(ports, most_runs + 1):
        runs = page[: most_runs - seen]
        for paged in PAGED:
            for finding in paged(ports, runs):
                keep(finding)
        seen += len(page)
    return Report(
        findings=tuple(found),
        cut=tuple(code for code, count in counts.items() if count > limit),
        runs_seen=min(seen, most_runs),
        all_runs_seen=seen <= most_runs,
    )
