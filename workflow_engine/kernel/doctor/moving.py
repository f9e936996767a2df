"""What should move and does not, and what may never end; each check is one query."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from workflow_engine.kernel.drift import find_drift
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun
from workflow_engine.models.base import read_clock
from workflow_engine.statuses import OPEN_STAGE, RunStatus, StageStatus, WaitKind

from .findings import Finding
from .states import runs_of, stages_of

# A tick that is late is no news.
LATE = timedelta(minutes=10)
FORGOTTEN = timedelta(days=30)
NO_TICK = "Does any worker tick? All may run with --no-orchestrator, or be down."


def time_of(ports: Ports) -> datetime:
    """Return the database's time."""
    now = ports.clock.db_now()
    return now if isinstance(now, datetime) else read_clock(ports.using)


def stuck_runs(ports: Ports) -> Iterator[Finding]:
    stages = StageRun.objects.using(ports.using).current().filter(run=OuterRef("pk"), status__in=OPEN_STAGE)
    rows = runs_of(ports).filter(status=RunStatus.RUNNING, paused_at__isnull=True).exclude(Exists(stages))
    for pk in rows.values_list("pk", flat=True).iterator():
        text = "The run is RUNNING, and no stage of it is pending, running or suspended: nothing will move it."
        fix = "The next tick advances it, or fails it with STUCK; so does wfe_doctor --fix."
        yield Finding("run.stuck", "violation", pk, "", text, fix)


def lost_stages(ports: Ports) -> Iterator[Finding]:
    grace = timedelta(seconds=ports.limits.beat_seconds)
    rows = stages_of(ports).orphaned(ports.clock.db_now() - grace)
    for run_id, stage, worker in rows.values_list("run", "stage", "worker").iterator():
        text = f"The stage runs in worker {worker}, whose lease is over. It will be reaped."
        fix = f"The next tick takes it back; so does wfe_doctor --fix. {NO_TICK}"
        yield Finding("lease.over", "warning", run_id, stage, text, fix)


def overslept_stages(ports: Ports) -> Iterator[Finding]:
    limit = time_of(ports) - LATE
    rows = stages_of(ports).filter(status=StageStatus.SUSPENDED, wake_at__lt=limit, worker__isnull=True)
    rows = rows.filter(run__status=RunStatus.RUNNING, run__paused_at__isnull=True)
    for run_id, stage, wake_at in rows.values_list("run", "stage", "wake_at").iterator():
        text = f"The stage should have been woken at {wake_at:%Y-%m-%d %H:%M:%S} UTC and still waits."
        yield Finding(
            "wait.overslept", "warning", run_id, stage, text, f"{NO_TICK} Or its workflow or queue is paused."
        )


def overdue_runs(ports: Ports) -> Iterator[Finding]:
    rows = runs_of(ports).filter(status=RunStatus.RUNNING, deadline_at__lt=time_of(ports) - LATE)
    for pk, deadline in rows.values_list("pk", "deadline_at").iterator():
        text = f"The run's timeout was over at {deadline:%Y-%m-%d %H:%M:%S} UTC, and it is still RUNNING."
        yield Finding("run.over_deadline", "warning", pk, "", text, NO_TICK)


def forgotten_questions(ports: Ports) -> Iterator[Finding]:
    rows = stages_of(ports).current().filter(status=StageStatus.SUSPENDED, wait_kind=WaitKind.ANSWER)
    rows = rows.filter(wait_until__isnull=True, suspended_at__lt=time_of(ports) - FORGOTTEN)
    for run_id, stage, name, since in rows.values_list("run", "stage", "wait_name", "suspended_at").iterator():
        text = f"The stage has waited for the answer {name!r} since {since:%Y-%m-%d}, and for ever if nobody gives it."
        fix = "Answer it or cancel the run; give the wait a max_wait for the next time."
        yield Finding("wait.forgotten", "warning", run_id, stage, text, fix)


def unknown_definitions(ports: Ports) -> Iterator[Finding]:
    code, fix = "definition.unknown", "Start a worker that has it before the grace is over, or cancel the run."
    runs = runs_of(ports).filter(status=RunStatus.PENDING, unknown_since__isnull=False)
    for pk, workflow, since in runs.values_list("pk", "workflow", "unknown_since").iterator():
        text = f"No living worker has known workflow {workflow!r} since {since:%Y-%m-%d %H:%M:%S} UTC."
        yield Finding(code, "warning", pk, "", text, fix)
    waiting = (StageStatus.PENDING, StageStatus.SUSPENDED)
    rows = stages_of(ports).filter(status__in=waiting, unknown_since__isnull=False)
    for run_id, stage, since in rows.values_list("run", "stage", "unknown_since").iterator():
        text = f"No living worker has known the stage since {since:%Y-%m-%d %H:%M:%S} UTC."
        yield Finding(code, "warning", run_id, stage, text, fix)


def drifting_runs(ports: Ports) -> Iterator[Finding]:
    for drift in find_drift(ports):
        for run_id in drift.run_ids:
            yield Finding("plan.drift", "warning", run_id, "", str(drift), " ".join(drift.fixes))
