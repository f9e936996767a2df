"""What runs should have told each other; each check is one query."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Exists, OuterRef

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import RunNotice, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN, RunStatus, StageStatus, WaitKind

from .findings import Finding, finding
from .moving import LATE, stages_of, time_of


def unheard_children(ports: Ports) -> Iterator[Finding]:
    """Stages that have waited for long for a child run that has ended, or is gone."""
    children = WorkflowRun.objects.using(ports.using).filter(parent_stage_run=OuterRef("pk"))
    rows = stages_of(ports).filter(
        status=StageStatus.SUSPENDED, wait_kind=WaitKind.CHILD, suspended_at__lt=time_of(ports) - LATE
    )
    rows = rows.filter(run__status=RunStatus.RUNNING).exclude(Exists(children.exclude(status__in=FINISHED_RUN)))
    for run_id, stage, name in rows.values_list("run", "stage", "wait_name").iterator():
        text = f"The stage waits for its child run {name!r}, and no such run is open."
        yield finding("child.unheard", run_id, stage, text=text)


def undelivered_notices(ports: Ports) -> Iterator[Finding]:
    rows = RunNotice.objects.using(ports.using).filter(due_at__lt=time_of(ports) - LATE).order_by("-pk")
    for run_id, kind, sender, due_at in rows.values_list("run_id", "kind", "sender", "due_at").iterator():
        text = f"A notice ({kind}) from run {sender} was due at {due_at:%Y-%m-%d %H:%M:%S} UTC and is not delivered."
        yield finding("notice.undelivered", run_id, text=text)
