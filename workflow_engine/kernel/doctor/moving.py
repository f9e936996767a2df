"""What should move and does not, and what may never end; each check is one query on what is open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Min

from workflow_engine.kernel.drift import find_drift
from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.base import read_clock
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import RunStatus, StageStatus, WaitKind

from .findings import Finding, finding

# A tick that is late is no news.
LATE = timedelta(minutes=10)
FORGOTTEN = timedelta(days=30)


def time_of(ports: Ports) -> datetime:
    """Return the database's time."""
    now = ports.clock.db_now()
    return now if isinstance(now, datetime) else read_clock(ports.using)


def runs_of(ports: Ports) -> WorkflowRunQuerySet:
    return WorkflowRun.objects.using(ports.using).order_by("-pk")


def stages_of(ports: Ports) -> StageRunQuerySet:
    return StageRun.objects.using(ports.using).order_by("-pk")


def lost_stages(ports: Ports) -> Iterator[Finding]:
    grace = timedelta(seconds=ports.limits.beat_seconds)
    rows = stages_of(ports).orphaned(ports.clock.db_now() - grace)
    for run_id, stage, worker in rows.values_list("run", "stage", "worker").iterator():
        text = f"The stage runs in worker {worker}, whose lease is over. It will be reaped."
        yield finding("lease.over", run_id, stage, text=text)


def untaken_stages(ports: Ports) -> Iterator[Finding]:
    rows = StageRun.objects.using(ports.using).filter(status=StageStatus.PENDING, due_at__lt=time_of(ports) - LATE)
    rows = rows.filter(run__status=RunStatus.RUNNING, run__paused_at__isnull=True)
    queues = rows.order_by().values("queue").annotate(number=Count("pk"), first=Min("due_at")).order_by("queue")
    for row in queues:
        since = f"{row['first']:%Y-%m-%d %H:%M:%S} UTC"
        text = f"{row['number']} stages of the queue {row['queue']!r} are due, the first since {since}."
        yield finding("work.not_taken", None, text=text)


def unclaimed_runs(ports: Ports) -> Iterator[Finding]:
    rows = WorkflowRun.objects.using(ports.using).filter(status=RunStatus.PENDING, paused_at__isnull=True)
    # What nobody knows is told by ``definition.unknown``.
    rows = rows.filter(due_at__lt=time_of(ports) - LATE, unknown_since__isnull=True).order_by()
    names = rows.values("workflow").annotate(number=Count("pk"), first=Min("due_at")).order_by("workflow")
    for row in names:
        since = f"{row['first']:%Y-%m-%d %H:%M:%S} UTC"
        text = f"{row['number']} runs of workflow {row['workflow']!r} are due, the first since {since}."
        yield finding("run.not_claimed", None, text=text)


def overslept_stages(ports: Ports) -> Iterator[Finding]:
    limit = time_of(ports) - LATE
    rows = stages_of(ports).filter(status=StageStatus.SUSPENDED, wake_at__lt=limit, worker__isnull=True)
    rows = rows.filter(run__status=RunStatus.RUNNING, run__paused_at__isnull=True)
    for run_id, stage, wake_at in rows.values_list("run", "stage", "wake_at").iterator():
        text = f"The stage should have been woken at {wake_at:%Y-%m-%d %H:%M:%S} UTC and still waits."
        yield finding("wait.overslept", run_id, stage, text=text)


def overdue_runs(ports: Ports) -> Iterator[Finding]:
    rows = runs_of(ports).filter(status=RunStatus.RUNNING, deadline_at__lt=time_of(ports) - LATE)
    for pk, deadline in rows.values_list("pk", "deadline_at").iterator():
        text = f"The run's timeout was over at {deadline:%Y-%m-%d %H:%M:%S} UTC, and it is still RUNNING."
        yield finding("run.over_deadline", pk, text=text)


def forgotten_questions(ports: Ports) -> Iterator[Finding]:
    rows = stages_of(ports).current().filter(status=StageStatus.SUSPENDED, wait_kind=WaitKind.ANSWER)
    # They are few, and found by the runs that live: no index has stages that nothing will wake.
    rows = rows.filter(run__status=RunStatus.RUNNING)
    rows = rows.filter(wait_until__isnull=True, suspended_at__lt=time_of(ports) - FORGOTTEN)
    for run_id, stage, name, since in rows.values_list("run", "stage", "wait_name", "suspended_at").iterator():
        text = f"The stage has waited for the answer {name!r} since {since:%Y-%m-%d}, and for ever if nobody gives it."
        yield finding("wait.forgotten", run_id, stage, text=text)


def unknown_definitions(ports: Ports) -> Iterator[Finding]:
    code = "definition.unknown"
    # In no order and by no cursor: else PostgreSQL reads every run by its id, or in one process, to find the few.
    runs = runs_of(ports).filter(status=RunStatus.PENDING, unknown_since__isnull=False).order_by()
    for pk, workflow, since in runs.values_list("pk", "workflow", "unknown_since"):
        text = f"No living worker has known workflow {workflow!r} since {since:%Y-%m-%d %H:%M:%S} UTC."
        yield finding(code, pk, text=text)
    waiting = (StageStatus.PENDING, StageStatus.SUSPENDED)
    rows = stages_of(ports).filter(status__in=waiting, unknown_since__isnull=False, run__status=RunStatus.RUNNING)
    for run_id, stage, since in rows.values_list("run", "stage", "unknown_since").iterator():
        text = f"No living worker has known the stage since {since:%Y-%m-%d %H:%M:%S} UTC."
        yield finding(code, run_id, stage, text=text)


def drifting_runs(ports: Ports) -> Iterator[Finding]:
    for drift in find_drift(ports):
        for run_id in drift.run_ids:
            yield finding("plan.drift", run_id, text=str(drift), fix=" ".join(drift.fixes))
