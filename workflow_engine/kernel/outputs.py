"""What a run has given, as its types make it."""

from __future__ import annotations

import json
from typing import Any

from workflow_engine.definitions import Workflow
from workflow_engine.models import WorkflowRun
from workflow_engine.statuses import RunStatus

from .ports import Ports


def typed_output(run: WorkflowRun, workflow: Workflow[Any, Any], ports: Ports) -> Any:
    """Return the output as the last stage's type makes it; a mapping for a group of several, a list for a map.

    None unless the run is COMPLETED. What the code no longer knows is returned as JSON.

    Raises:
        BlobNotFound, BlobCorrupt: it lies in the blob store, and cannot be read.
    """
    if run.status != RunStatus.COMPLETED:
        return None
    output, number = run.get_output(), run.output_group
    if number == 0:
        return _read(workflow.input, output)
    last = run.plan["groups"][number - 1]["stages"]
    if not all(workflow.has_stage(item["id"]) for item in last):
        return output
    types = {item["id"]: workflow.output_type(item["id"]) for item in last}
    if len(last) == 1:
        return _read(types[last[0]["id"]], output)
    keys = {stage_id: stage_id.replace("-", "_") for stage_id in types}
    # A stage of a group that was skipped is absent.
    return {key: _read(types[stage_id], output[key]) for stage_id, key in keys.items() if key in output}


def _read(kind: Any, value: Any) -> Any:
    return None if kind.type is None else kind.adapter.validate_json(json.dumps(value))
