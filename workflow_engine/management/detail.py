"""One run in detail: facts, stages, last error, last log lines, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.graphs.durations import spell
from workflow_engine.models import WorkflowRun
from workflow_engine.models.lineage import children_of, origin_of
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.statuses import StageStatus

from .changes import retry_in_words
from .looking import (
    StageLine,
    answer_command,
    artifact_as_json,
    artifacts_of,
    duration_of,
    item_of,
    last_lines,
    log_as_json,
    run_as_json,
    stages_of,
)
from .printing import clock, error_line, facts, file_lines, moment, table

LOG_LINES = 10


def detail_as_json(run: WorkflowRun) -> dict[str, Any]:
    return {
        **run_as_json(run),
        "created_by": run.data.created_by,
        "cancel_reason": run.data.cancel_reason,
        "waiting": waiting_reason(run, get_kernel().ports.clock.now()) or None,
        "metadata": run.metadata,
        "stages": [line.as_json() for line in stages_of(run)],
        "children": _children_as_json(run),
        "logs": [log_as_json(line) for line in last_lines(run, LOG_LINES)],
        "artifacts": [artifact_as_json(artifact) for artifact in artifacts_of(run)],
    }


def detail_lines(run: WorkflowRun) -> Iterator[str]:
    """Yield the run as people read it; parts with nothing in them are left out."""
    yield from facts(_facts(run))
    yield ""
    stages = stages_of(run)
    yield from table(("stage", "status", "try", "progress", "took", ""), [_stage_row(line) for line in stages])
    if asking := next((line for line in stages if line.question), None):
        yield ""
        yield f"Answer it with: {answer_command(run, asking)}"
    yield from _children_lines(run)
    if error := _last_error(run, stages):
        yield ""
        yield error
    if lines := last_lines(run, LOG_LINES):
        yield ""
        yield f"Last {len(lines)} log lines:" if len(lines) > 1 else "Log:"
        yield from (f"  {_log_line(line)}" for line in lines)
    if files := artifacts_of(run):
        yield ""
        yield "Artifacts:"
        yield from (f"  {line}" for line in file_lines(files))


def _children_as_json(run: WorkflowRun) -> dict[str, Any]:
    children = children_of(run)
    return {
        "count": children.total,
        "statuses": dict(children.statuses),
        "first": [{"run_id": one.pk, "workflow_id": one.workflow, "status": one.status} for one in children.first],
    }


def _children_lines(run: WorkflowRun) -> Iterator[str]:
    children = children_of(run)
    if not children.total:
        return
    yield ""
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(children.statuses.items()))
    yield f"Child runs: {counts}"
    yield from (
        f"  {line}" for line in table(("run", "workflow", "status"), [_child_row(one) for one in children.first])
    )
    if children.more > 0:
        yield f"  and {children.more:,} more: manage.py wfe_status --parent {run.pk} --limit {children.total}"


def _child_row(child: WorkflowRun) -> tuple[str, ...]:
    return str(child.pk), child.workflow, child.status


def _facts(run: WorkflowRun) -> dict[str, str]:
    duration, origin = duration_of(run), origin_of(run)
    return {
        "run": str(run.pk),
        "workflow": f"{run.workflow}, version {run.version}",
        "status": run.status + (", paused" if run.paused_at and not run.is_finished else ""),
        "started by": ""
        if origin is None
        else f"run {origin.run_id}" + (f", stage {origin.place}" if origin.stage_id else ""),
        "root": str(run.root_run_id) if run.root_run_id and run.root_run_id != run.parent_run_id else "",
        "priority": str(run.priority),
        "generation": str(run.generation) if run.generation else "",
        "created": moment(run.created_at) + (f" by {run.data.created_by}" if run.data.created_by else ""),
        "due": moment(run.due_time) if run.started_at is None and run.due_at > run.created_at else "",
        "started": moment(run.started_at),
        "finished": moment(run.finished_at),
        "took": spell(duration) if duration is not None else "",
        "cost": f"{run.total_cost:,.10g}" if run.total_cost else "",
        "tokens": f"{run.total_tokens:,}" if run.total_tokens else "",
        "cancelled": run.data.cancel_reason,
        "now": waiting_reason(run, get_kernel().ports.clock.now()),
    }


def _stage_row(line: StageLine) -> tuple[str, ...]:
    percent = "" if line.percent is None or not (line.is_running or line.runs_items) else f"{line.percent:.0f}%"
    took = "" if line.duration is None else spell(line.duration)
    remark = retry_in_words(line) if line.retry_at else line.message if line.is_running else line.remark
    return line.stage_id, line.status, str(line.attempt or ""), percent, took, remark


def _last_error(run: WorkflowRun, stages: tuple[StageLine, ...]) -> str:
    """Return the run's error, or that of the stage which failed last while the run still goes on."""
    if run.error:
        return f"Error in stage {run.error.get('stage', '?')}: {error_line(run.error)}"
    failed = [line for line in stages if line.error and line.status != StageStatus.COMPLETED]
    return f"Last error, in stage {failed[-1].stage_id}: {error_line(failed[-1].error)}" if failed else ""


def _log_line(line: Any) -> str:
    item = item_of(line)
    place = line.stage if item is None else f"{line.stage} #{item}"
    fields = " ".join(f"{name}={json.dumps(content, ensure_ascii=False)}" for name, content in line.fields.items())
    message = " ".join(line.message.split())
    return f"{clock(line.created_at)}  {line.level:<7}  {place}  {message}  {fields}".rstrip()
