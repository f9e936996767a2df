"""Who has started a run, and what it has started, as its page shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from workflow_engine.models import WorkflowRun
from workflow_engine.models.lineage import Origin, children_of, origin_of
from workflow_engine.statuses import RunStatus

from .columns import chip, run_link, span


def lineage_facts(run: WorkflowRun) -> list[tuple[str, Any]]:
    """Return which run has started this one, and the first of the line if that is another; empty values: nobody."""
    origin = origin_of(run)
    root = run.root_run_id if run.root_run_id != run.parent_run_id else None
    return [
        (_("Started by run"), _link(origin) if origin else ""),
        (_("First run of the line"), run_link(root) if root else ""),
    ]


def _link(origin: Origin) -> Any:
    link = run_link(origin.run_id)
    if not origin.stage_id:
        return link
    return format_html("{} ({})", link, _("stage %(stage)s") % {"stage": origin.place})


def children_shown(run: WorkflowRun, now: datetime) -> dict[str, Any] | None:
    """Return the first runs that this one has started, how many there are by status, and where all are listed."""
    children = children_of(run)
    if not children.total:
        return None
    counts = [(status.label, children.statuses[status]) for status in RunStatus if children.statuses[status]]
    return {
        "total": f"{children.total:,}",
        "counts": ", ".join(f"{count:,} {label}" for label, count in counts),
        "lines": [_line(child, now) for child in children.first],
        "more": f"{children.more:,}" if children.more > 0 else "",
        "url": f"{reverse('admin:workflow_engine_workflowrun_changelist')}?parent_run={run.pk}",
    }


def _line(child: WorkflowRun, now: datetime) -> dict[str, Any]:
    stage, item = child.parent_stage_run, None if child.parent_stage_run is None else child.parent_stage_run.item_index
    return {
        "link": run_link(child.pk),
        "workflow": child.workflow,
        "chip": chip(child.status, child.get_status_display()),
        "stage": "" if stage is None else stage.stage,
        "item": "" if item is None else f"#{item}",
        "duration": span(child.started_at, child.finished_at or now),
    }
