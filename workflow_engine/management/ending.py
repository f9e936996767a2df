"""How a run ended, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workflow_engine.graphs.durations import spell
from workflow_engine.models import WorkflowRun
from workflow_engine.redaction import redact
from workflow_engine.statuses import RunStatus

from .looking import artifact_as_json, artifacts_of, duration_of, run_as_json, stages_of
from .printing import error_line, file_lines, value


def ending_as_json(run: WorkflowRun) -> dict[str, Any]:
    """Return the run with its output as it is (nothing cut, nothing masked), its stages and its files."""
    return {
        **run_as_json(run),
        "created": run.was_created,
        "output": run.get_output(),
        "stages": [line.as_json() for line in stages_of(run)],
        "artifacts": [artifact_as_json(artifact) for artifact in artifacts_of(run)],
    }


def ending_lines(run: WorkflowRun) -> Iterator[str]:
    """Yield status and duration, then output, files and error as far as there are any; secrets are masked."""
    duration = duration_of(run)
    yield f"{run.status} after {spell(duration)}" if duration is not None else run.status
    if run.status == RunStatus.COMPLETED:
        yield f"Output: {value(redact(run.get_output()))}"
    if files := artifacts_of(run):
        yield "Artifacts:"
        yield from (f"  {line}" for line in file_lines(files))
    if run.error:
        stage = f" in stage {run.error['stage']}" if run.error.get("stage") else ""
        yield f"Error{stage}: {error_line(run.error)}"
