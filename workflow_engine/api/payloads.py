"""Inputs and outputs as the API shows them: secrets masked, large ones named instead of loaded."""

from __future__ import annotations

from typing import Any

from workflow_engine.conf import get_setting
from workflow_engine.errors import BlobCorrupt, BlobNotFound
from workflow_engine.models import WorkflowRun
from workflow_engine.models.awaited import stage_rows
from workflow_engine.models.maps import read_page
from workflow_engine.models.payloads import Envelope
from workflow_engine.redaction import redact
from workflow_engine.statuses import RunStatus, StageStatus

# Of one value; a larger one is shown as ``{"$blob": key, "size": bytes}``.
SHOWN_BYTES = 1024 * 1024
# Of the output of a mapped stage; what has more is shown as ``{"$items": stage_id, "count", "failed"}``.
SHOWN_ITEMS = 200


def show_input(run: WorkflowRun) -> Any:
    return show_value(run.data.input)


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
    rows = stage_rows(run).filter(stage__in=stage_ids, status=StageStatus.COMPLETED)
    outputs = dict(rows.values_list("stage", "output"))
    if len(stage_ids) == 1:
        return show_value(outputs.get(stage_ids[0]))
    return {stage_id.replace("-", "_"): show_value(outputs[stage_id]) for stage_id in stage_ids if stage_id in outputs}


def show_value(data: dict[str, Any] | None) -> Any:
    """Return a stored value as JSON, or a reference to one that is too large to be shown."""
    envelope = Envelope(data)
    if envelope.items is not None:
        return _show_items(envelope.items)
    if envelope.blob_key is not None and (envelope.size or 0) > SHOWN_BYTES:
        return _reference(envelope)
    try:
        return redact(envelope.open())
    except (BlobNotFound, BlobCorrupt) as error:
        return {**_reference(envelope), "error": error.code}


def _reference(envelope: Envelope) -> dict[str, Any]:
    return {"$blob": envelope.blob_key, "size": envelope.size}


def _show_items(reference: dict[str, Any]) -> Any:
    """Return the results of a mapped stage, in all no more than a single value may be."""
    instead = {"$items": reference["stage"], "count": reference["count"], "failed": reference["failed"]}
    if reference["count"] > SHOWN_ITEMS:
        return instead
    results = read_page(reference, get_setting("DATABASE"), 0, SHOWN_ITEMS)
    if sum(_size(result.output) for result in results) > SHOWN_BYTES:
        return instead
    shown = []
    for result in results:
        if result.status == StageStatus.COMPLETED:
            shown.append(show_value(result.output))
        elif reference["on_item_error"] == "collect":
            shown.append(redact(result.as_error()))
    return shown


def _size(data: dict[str, Any] | None) -> int:
    envelope = Envelope(data)
    return (envelope.size or 0) if envelope.blob_key is not None else len((data or {}).get("json", ""))
