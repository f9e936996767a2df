"""Drift: runs that live by a plan which the code of this process can no longer follow to its end. Only reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.fields.json import KeyTextTransform

from workflow_engine.definitions import Workflow
from workflow_engine.errors import WorkflowNotFound
from workflow_engine.models import RunData, StageRun, WorkflowRun
from workflow_engine.models.runs import WorkflowRunQuerySet
from workflow_engine.statuses import DONE_STAGE, OPEN_STAGE, StageStatus, WaitKind

from .ports import Ports

MOST_IDS = 5


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a plan needs and the code lacks: a workflow, a stage, a wait or a completion check of a stage."""

    kind: Literal["workflow", "stage", "wait", "check"]
    # Empty for a workflow.
    stage: str = ""
    # Of the wait.
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "workflow":
                return "the workflow"
            case "stage":
                return f"stage {self.stage!r}"
            case "wait":
                return f"wait {self.name!r} of stage {self.stage!r}"
        return f"the completion check of stage {self.stage!r}"

    @property
    def fix(self) -> str:
        match self.kind:
            case "workflow":
                return "Keep the old code and register the workflow until these runs have ended, or cancel them."
            case "stage":
                return f"Keep the code of {self.stage!r} and add .retired(it) to the workflow, or cancel the runs."
            case "wait":
                return f"Keep Wait({self.name!r}, …) in waits= of stage {self.stage!r}, or cancel the runs."
        return f"Keep @….check_completion of stage {self.stage!r}, or cancel the runs."


@dataclass(frozen=True, slots=True)
class Drift:
    """Live runs of one plan that need what is missing."""

    workflow: str
    version: str
    fingerprint: str
    missing: tuple[Missing, ...]
    runs: int
    # The first few of them.
    run_ids: tuple[uuid.UUID, ...]

    def __str__(self) -> str:
        runs = "1 live run" if self.runs == 1 else f"{self.runs} live runs"
        lacks = ", ".join(map(str, self.missing))
        return f"{runs} of workflow {self.workflow!r} version {self.version} need what the code lacks: {lacks}."

    @property
    def fixes(self) -> tuple[str, ...]:
        return tuple(item.fix for item in self.missing)

    def as_json(self) -> dict[str, Any]:
        return {
            "workflow_id": self.workflow,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "missing": [
                {"kind": item.kind, "stage": item.stage or None, "name": item.name or None, "fix": item.fix}
                for item in self.missing
            ],
            "runs": self.runs,
            "run_ids": [str(run_id) for run_id in self.run_ids],
        }


def find_drift(ports: Ports) -> list[Drift]:
    """Compare the plans of PENDING and RUNNING runs with this process's registry; one statement if all is well."""
    known = {workflow.id: workflow for workflow in ports.registry.registered_workflows()}
    rows = WorkflowRun.objects.using(ports.using).open()
    groups = rows.annotate(fingerprint=KeyTextTransform("fingerprint", "data__plan"))
    counts = groups.values("workflow", "version", "fingerprint").annotate(runs=Count("pk"))
    checks = _stages_without_check(ports)
    found = []
    for group in counts.order_by("workflow", "version", "fingerprint"):
        fingerprint = group["fingerprint"]
        # A plan without any cannot be read: that is for the doctor.
        of_group = rows.filter(
            workflow=group["workflow"], version=group["version"], data__plan__fingerprint=fingerprint
        )
        workflow = known.get(group["workflow"])
        if workflow is not None and workflow.fingerprint == fingerprint and workflow.id not in checks:
            continue
        drift = _drift_of(ports, group, of_group, workflow, checks.get(group["workflow"], frozenset()))
        if drift is not None:
            found.append(drift)
    return found


def _stages_without_check(ports: Ports) -> dict[str, frozenset[str]]:
    """Return the stages that wait for a completion check which the code does not have, by workflow."""
    waiting = StageRun.objects.using(ports.using).current()
    # There is an index on those that something will wake, and a check always has its time.
    waiting = waiting.filter(status=StageStatus.SUSPENDED, wait_kind=WaitKind.POLL, wake_at__isnull=False)
    found: dict[str, frozenset[str]] = {}
    for workflow_id, stage_id in waiting.values_list("run__workflow", "stage").distinct():
        try:
            workflow = ports.registry.get_workflow(workflow_id)
        except WorkflowNotFound:
            continue
        if workflow.has_stage(stage_id) and workflow.get_stage(stage_id).check is None:
            found[workflow_id] = found.get(workflow_id, frozenset()) | {stage_id}
    return found


def _drift_of(
    ports: Ports,
    group: Mapping[str, Any],
    rows: WorkflowRunQuerySet,
    workflow: Workflow[Any, Any] | None,
    without_check: frozenset[str],
) -> Drift | None:
    data = RunData.objects.using(ports.using).filter(run=rows.order_by("pk").values("pk")[:1])
    plan = data.values_list("plan", flat=True).first()
    missing, needing = [], Q(pk__isnull=True)
    for item in _missing(plan or {}, workflow, without_check):
        condition = _needs(ports, item)
        if rows.filter(condition).exists():
            missing.append(item)
            needing |= condition
    found = rows.filter(needing)
    count = found.count() if missing else 0
    if not count:
        # Or they have ended meanwhile.
        return None
    return Drift(
        workflow=group["workflow"],
        version=group["version"],
        fingerprint=group["fingerprint"] or "",
        missing=tuple(missing),
        runs=count,
        run_ids=tuple(found.order_by("pk").values_list("pk", flat=True)[:MOST_IDS]),
    )


def _missing(
    plan: Mapping[str, Any], workflow: Workflow[Any, Any] | None, without_check: frozenset[str]
) -> Iterator[Missing]:
    if workflow is None:
        yield Missing("workflow")
        return
    for item in (item for group in plan.get("groups", ()) for item in group["stages"]):
        if not workflow.has_stage(item["id"]):
            yield Missing("stage", item["id"])
            continue
        stage = workflow.get_stage(item["id"])
        yield from (Missing("wait", stage.id, name) for name in item.get("waits", ()) if stage.get_wait(name) is None)
        if stage.id in without_check:
            yield Missing("check", stage.id)


def _needs(ports: Ports, missing: Missing) -> Q:
    """Return the condition on live runs that they still need it."""
    if missing.kind == "workflow":
        return Q(pk__isnull=False)
    rows = StageRun.objects.using(ports.using).current().filter(run=OuterRef("pk"), stage=missing.stage)
    if missing.kind == "check":
        return Q(Exists(rows.filter(status=StageStatus.SUSPENDED, wait_kind=WaitKind.POLL)))
    # Of a map some items may be done and others not.
    return ~Q(Exists(rows.filter(status__in=DONE_STAGE))) | Q(Exists(rows.filter(status__in=OPEN_STAGE)))
