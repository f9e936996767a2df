"""Inputs and outputs as the API shows them: secrets masked, large ones named instead of loaded."""

from __future__ import annotations

from typing import Any

from workflow_engine.errors import BlobCorrupt, BlobNotFound
from workflow_engine.models import StageRun, WorkflowRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact
from workflow_engine.statuses import RunStatus, StageStatus

# Of one value; a larger one is shown as ``{"$blob": key, "size": bytes}``.
SHOWN_BYTES = 1024 * 1024


def show_input(run: WorkflowRun) -> Any:
    return _show(run.data.input)


def show_output(run: WorkflowRun) -> Any:
    """Return the last group's output, a mapping if it has several stages; None before the run is completed.

    What was skipped gives nothing: a group of one that was skipped leaves the output of the group before it.
    """
    if run.status != RunStatus.COMPLETED:
        return None
    number = run.output_group
    if number == 0:
        return show_input(run)
    stage_ids = [item["id"] for item in run.plan["groups"][number - 1]["stages"]]
    rows = StageRun.objects.using(run._state.db).current().filter(run=run, stage__in=stage_ids)
    rows = rows.filter(status=StageStatus.COMPLETED)
    outputs = dict(rows.in_order().values_list("stage", "output"))
    if len(stage_ids) == 1:
        return _show(outputs.get(stage_ids[0]))
    return {stage_id.replace("-", "_"): _show(outputs[stage_id]) for stage_id in stage_ids if stage_id in outputs}


def _show(data: dict[str, Any] | None) -> Any:
    envelope = Envelope(data)
    reference = {"$blob": envelope.blob_key, "size": envelope.size}
    if envelope.blob_key is not None and (envelope.size or 0) > SHOWN_BYTES:
        return reference
    try:
        return redact(envelope.open())
    except (BlobNotFound, BlobCorrupt) as error:
        return {**reference, "error": error.code}
