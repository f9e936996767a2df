"""One run in detail: facts, stages, last error, last log lines, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workflow_engine.bootstrap import get_kernel
from workflow_engine.graphs.durations import spell
from workflow_engine.models import WorkflowLog, WorkflowRun
from workflow_engine.models.waiting import waiting_reason
from workflow_engine.statuses import StageStatus, WaitKind

from .changes import retry_in_words
from .looking import (
    StageLine,
    answer_command,
    artifact_as_json,
    artifacts_of,
    duration_of,
    last_lines,
    log_as_json,
    run_as_json,
    stages_of,
)
from .printing import clock, error_line, facts, moment, size, table

LOG_LINES = 10


def detail_as_json(run: WorkflowRun) -> dict[str, Any]:
    return {
        **run_as_json(run),
        "created_by": run.data.created_by,
        "cancel_reason": run.data.cancel_reason,
        "waiting": waiting_reason(run, get_kernel().ports.clock.now()) or None,
        "metadata": run.metadata,
        "stages": [line.as_json() for line in stages_of(run)],
        "logs": [log_as_json(line) for line in last_lines(run, LOG_LINES)],
        "artifacts": [artifact_as_json(artifact) for artifact in artifacts_of(run)],
    }


def detail_lines(run: WorkflowRun) -> Iterator[str]:
    """Yield the run as people read it; parts with nothing in them are left out."""
    yield from facts(_facts(run))
    yield ""
    stages = stages_of(run)
    yield from table(("stage", "status", "try", "progress", "took", ""), [_stage_row(line) for line in stages])
    if asking := next(
        (line for line in stages if line.suspension and line.suspension.waits_for == WaitKind.ANSWER), None
    ):
        yield ""
        yield f"Answer it with: {answer_command(run, asking)}"
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
        rows = [(artifact.name, size(artifact.size), artifact.key) for artifact in files]
        yield from (f"  {line}" for line in table(("name", "size", "key"), rows))


def _facts(run: WorkflowRun) -> dict[str, str]:
    duration = duration_of(run)
    return {
        "run": str(run.pk),
        "workflow": f"{run.workflow}, version {run.version}",
        "status": run.status + (", paused" if run.paused_at and not run.is_finished else ""),
        "priority": str(run.priority),
        "generation": str(run.generation) if run.generation else "",
        "created": moment(run.created_at) + (f" by {run.data.created_by}" if run.data.created_by else ""),
        "due": moment(run.due_at) if run.started_at is None and run.due_at > run.created_at else "",
        "started": moment(run.started_at),
        "finished": moment(run.finished_at),
        "took": spell(duration) if duration is not None else "",
        "cost": f"{run.total_cost:,.10g}" if run.total_cost else "",
        "tokens": f"{run.total_tokens:,}" if run.total_tokens else "",
        "cancelled": run.data.cancel_reason,
        "now": waiting_reason(run, get_kernel().ports.clock.now()),
    }


def _stage_row(line: StageLine) -> tuple[str, ...]:
    percent = "" if line.percent is None or not line.is_running else f"{line.percent:.0f}%"
    took = "" if line.duration is None else spell(line.duration)
    remark = retry_in_words(line) if line.retry_at else line.message if line.is_running else line.remark
    return line.stage_id, line.status, str(line.attempt or ""), percent, took, remark


def _last_error(run: WorkflowRun, stages: tuple[StageLine, ...]) -> str:
    """Return the run's error, or that of the stage which failed last while the run still goes on."""
    if run.error:
        return f"Error in stage {run.error.get('stage', '?')}: {error_line(run.error)}"
    failed = [line for line in stages if line.error and line.status != StageStatus.COMPLETED]
    return f"Last error, in stage {failed[-1].stage_id}: {error_line(failed[-1].error)}" if failed else ""


def _log_line(line: WorkflowLog) -> str:
    fields = " ".join(f"{name}={json.dumps(content, ensure_ascii=False)}" for name, content in line.fields.items())
    message = " ".join(line.message.split())
    return f"{clock(line.created_at)}  {line.level:<7}  {line.stage}  {message}  {fields}".rstrip()
