"""What goes on in the engine: counts, workers, what waits, the latest runs. Bounded however many runs there are."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.graphs.durations import spell
from workflow_engine.models import Pause, StageRun, WorkerHeartbeat, WorkflowRun
from workflow_engine.statuses import OPEN_RUN, RunStatus, StageStatus, WaitKind

from .looking import duration_of, run_as_json
from .printing import moment, table

MOST_COUNTED = 10_000
_WAITS: dict[str, str] = {
    WaitKind.ANSWER: "waiting for an answer",
    WaitKind.TIMER: "sleeping",
    WaitKind.POLL: "waiting for a check",
    WaitKind.ITEMS: "running their items",
    WaitKind.CHILD: "waiting for a child run",
}


@dataclass(frozen=True, slots=True)
class Overview:
    """``counts``: open runs, at most 10,000 each; the others among the newest 10,000 runs, all if ``is_complete``."""

    now: datetime
    counts: dict[str, int]
    is_complete: bool
    workers: list[WorkerHeartbeat]
    pauses: list[Pause]
    oldest_waiting: WorkflowRun | None
    # What suspended stages wait for, at most 10,000 in all.
    suspended: dict[str, int]
    latest: list[WorkflowRun]

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "counts_are_complete": self.is_complete,
            "workers": [_worker_as_json(worker) for worker in self.workers],
            "pauses": [_pause_as_json(pause) for pause in self.pauses],
            "oldest_waiting": None if self.oldest_waiting is None else run_as_json(self.oldest_waiting),
            "suspended": self.suspended,
            "latest": [run_as_json(run) for run in self.latest],
        }


def look_around(*, workflow: str | None, status: str | None, limit: int, parent: uuid.UUID | None = None) -> Overview:
    """Return the overview; ``workflow`` and ``parent`` narrow what is counted and listed, ``status`` the list."""
    ports = get_kernel().ports
    runs = WorkflowRun.objects.using(ports.using)
    if parent is not None:
        runs = runs.filter(parent_run=parent)
    if workflow is not None:
        runs = runs.for_workflow(workflow)
    newest = Counter(runs.order_by("-id").values_list("status", flat=True)[:MOST_COUNTED])
    is_complete = newest.total() < MOST_COUNTED
    for each in () if is_complete else OPEN_RUN:
        # Open runs are found by an index, so those that are older than the newest 10,000 count too.
        newest[each] = runs.filter(status=each)[:MOST_COUNTED].count()
    listed = runs if status is None else runs.filter(status=status)
    waiting = runs.filter(status=RunStatus.PENDING, paused_at__isnull=True, due_at__lte=ports.clock.db_now())
    return Overview(
        now=ports.clock.now(),
        counts={each.value: newest[each] for each in RunStatus},
        is_complete=is_complete,
        workers=list(WorkerHeartbeat.objects.using(ports.using).alive(ports.clock.db_now()).order_by("started_at")),
        pauses=list(Pause.objects.using(ports.using).order_by("scope", "name")),
        oldest_waiting=waiting.order_by("id").first(),
        suspended=_suspended(ports.using, workflow, parent),
        latest=list(listed.order_by("-id")[:limit]),
    )


def _suspended(using: str, workflow: str | None, parent: uuid.UUID | None) -> dict[str, int]:
    """Count what suspended stages wait for. Found by their runs, which are RUNNING and have an index."""
    rows = StageRun.objects.using(using).current().filter(run__status=RunStatus.RUNNING, status=StageStatus.SUSPENDED)
    if workflow is not None:
        rows = rows.filter(run__workflow=workflow)
    if parent is not None:
        rows = rows.filter(run__parent_run=parent)
    found = Counter(rows.order_by().values_list("wait_kind", flat=True)[:MOST_COUNTED])
    return {kind.value: found[kind] for kind in WaitKind}


def overview_lines(overview: Overview) -> Iterator[str]:
    """Yield the overview as people read it."""
    counts = ", ".join(f"{count:,} {status}" for status, count in overview.counts.items() if count)
    scope = "" if overview.is_complete else f" (finished ones: among the newest {MOST_COUNTED:,})"
    yield f"Runs: {counts or 'none'}{scope}"
    yield f"Workers: {len(overview.workers) or 'none alive'}"
    yield from (f"  {_worker_line(worker, overview.now)}" for worker in overview.workers)
    yield from (f"Paused: {_pause_line(pause, overview.now)}" for pause in overview.pauses)
    if waiting := overview.oldest_waiting:
        yield f"Oldest waiting: {waiting.pk} ({waiting.workflow}), due for {spell(overview.now - waiting.due_at)}"
        if not overview.workers:
            yield "Nobody takes it. Start a worker: manage.py wfe_worker"
    if any(overview.suspended.values()):
        parts = [f"{count:,} {_WAITS[kind]}" for kind, count in overview.suspended.items() if count]
        yield f"Suspended stages: {', '.join(parts)}"
    if overview.latest:
        yield ""
        yield from table(("run", "workflow", "status", "created", "took"), [_run_row(run) for run in overview.latest])


def _worker_line(worker: WorkerHeartbeat, now: datetime) -> str:
    queues = f" of {', '.join(worker.queues)}" if worker.queues else ""
    zombies = f", {worker.zombies} hanging" if worker.zombies else ""
    # Stages on the event loop take no slot, so there may be more of them.
    load = f"{worker.running} running, {worker.slots} slots{zombies}"
    return f"{worker.name}: {load}{queues}, last beat {spell(now - worker.beat_at)} ago"


def _pause_line(pause: Pause, now: datetime) -> str:
    who = f" by {pause.actor}" if pause.actor else ""
    why = f": {' '.join(pause.reason.split())}" if pause.reason else ""
    return f"{pause.scope} {pause.name}, {spell(max(timedelta(0), now - pause.paused_at))} ago{who}{why}"


def _run_row(run: WorkflowRun) -> tuple[str, ...]:
    duration = duration_of(run)
    status = f"{run.status} (paused)" if run.paused_at and not run.is_finished else run.status
    took = "" if duration is None else spell(duration)
    return str(run.pk), run.workflow, status, moment(run.created_at), took


def _pause_as_json(pause: Pause) -> dict[str, Any]:
    return {
        "scope": pause.scope,
        "name": pause.name,
        "paused_at": pause.paused_at,
        "actor": pause.actor,
        "reason": pause.reason,
    }


def _worker_as_json(worker: WorkerHeartbeat) -> dict[str, Any]:
    return {
        "worker_id": worker.pk,
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "queues": worker.queues,
        "workflows": worker.workflows,
        "slots": worker.slots,
        "running": worker.running,
        "zombies": worker.zombies,
        "started_at": worker.started_at,
        "beat_at": worker.beat_at,
    }
