"""Statuses, generations and times that contradict each other; each check is one query."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import F, Q

from workflow_engine.kernel.ports import Ports
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.models.stage_runs import StageRunQuerySet
from workflow_engine.statuses import FINISHED_RUN, FINISHED_STAGE, OPEN_RUN, OPEN_STAGE, RunStatus, StageStatus

from .findings import Finding


def runs_of(ports: Ports) -> WorkflowRunQuerySet:
    return WorkflowRun.objects.using(ports.using).order_by("-pk")


def stages_of(ports: Ports) -> StageRunQuerySet:
    return StageRun.objects.using(ports.using).order_by("-pk")


def unknown_statuses(ports: Ports) -> Iterator[Finding]:
    code = "status.unknown"
    for pk, status in runs_of(ports).exclude(status__in=RunStatus.values).values_list("pk", "status").iterator():
        yield Finding(code, "violation", pk, "", f"The run has the status {status!r}, which does not exist.")
    rows = stages_of(ports).exclude(status__in=StageStatus.values)
    for run_id, stage, status in rows.values_list("run", "stage", "status").iterator():
        yield Finding(code, "violation", run_id, stage, f"The stage has the status {status!r}, which does not exist.")


def impossible_statuses(ports: Ports) -> Iterator[Finding]:
    """Statuses without what belongs to them, or of stages whose run cannot have got there."""
    code = "status.impossible"
    rows = runs_of(ports).filter(status=RunStatus.RUNNING, started_at__isnull=True)
    for pk in rows.values_list("pk", flat=True).iterator():
        yield Finding(code, "violation", pk, "", "The run is RUNNING and was never started.")
    stages = stages_of(ports)
    for run_id, stage in stages.filter(_holds_nothing()).values_list("run", "stage").iterator():
        yield Finding(code, "violation", run_id, stage, "The stage is RUNNING without a worker or a token.")
    before = stages.filter(run__status=RunStatus.PENDING).exclude(status=StageStatus.PENDING)
    for run_id, stage, status in before.values_list("run", "stage", "status").iterator():
        yield Finding(code, "violation", run_id, stage, f"The stage is {status}, and its run has not begun.")


def _holds_nothing() -> Q:
    return Q(status=StageStatus.RUNNING) & (Q(worker__isnull=True) | Q(token=0))


def ends_without_time(ports: Ports) -> Iterator[Finding]:
    code = "time.missing"
    wrong = Q(status__in=FINISHED_RUN, finished_at__isnull=True) | Q(status__in=OPEN_RUN, finished_at__isnull=False)
    for pk, status in runs_of(ports).filter(wrong).values_list("pk", "status").iterator():
        yield Finding(code, "violation", pk, "", _time_text("run", status, status in FINISHED_RUN))
    wrong = Q(status__in=FINISHED_STAGE, finished_at__isnull=True) | Q(status__in=OPEN_STAGE, finished_at__isnull=False)
    for run_id, stage, status in stages_of(ports).filter(wrong).values_list("run", "stage", "status").iterator():
        yield Finding(code, "violation", run_id, stage, _time_text("stage", status, status in FINISHED_STAGE))


def _time_text(what: str, status: str, has_ended: bool) -> str:
    return f"The {what} is {status} and {'has no' if has_ended else 'has a'} time of its end."


def open_in_ended_runs(ports: Ports) -> Iterator[Finding]:
    rows = stages_of(ports).filter(status__in=OPEN_STAGE, run__status__in=FINISHED_RUN)
    for run_id, stage, status, run in rows.values_list("run", "stage", "status", "run__status").iterator():
        text = f"The stage is {status}, and its run is {run}. Nothing will start or end it."
        yield Finding("stage.open_in_ended_run", "violation", run_id, stage, text)


def ahead_of_their_run(ports: Ports) -> Iterator[Finding]:
    rows = stages_of(ports).filter(generation__gt=F("run__generation"))
    for run_id, stage, mine, runs in rows.values_list("run", "stage", "generation", "run__generation").iterator():
        text = f"The stage is of generation {mine}, and its run is only in generation {runs}."
        yield Finding("generation.ahead", "violation", run_id, stage, text)


def open_in_old_generations(ports: Ports) -> Iterator[Finding]:
    old = Q(generation__lt=F("run__generation")) | Q(superseded_at__isnull=False)
    rows = stages_of(ports).filter(old, status__in=OPEN_STAGE)
    for run_id, stage, status, generation in rows.values_list("run", "stage", "status", "generation").iterator():
        text = f"The stage of generation {generation} is {status}, and a rerun has taken its place."
        yield Finding("generation.open_but_old", "violation", run_id, stage, text)
