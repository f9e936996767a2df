"""A workflow definition as plain data, for programs."""

from __future__ import annotations

from typing import Any

from workflow_engine.definitions import Stage, Workflow
from workflow_engine.definitions.items import ItemMap


def as_data(workflow: Workflow[Any, Any]) -> dict[str, Any]:
    """Return ids, names, groups with their stages, and JSON Schemas; times are in seconds."""
    return {
        "workflow_id": workflow.id,
        "name": workflow.name,
        "description": workflow.description,
        "version": workflow.version,
        "fingerprint": workflow.fingerprint,
        "groups": [
            {
                "number": group.number,
                "fail_fast": group.fail_fast,
                "stages": [_stage(stage, group.map) for stage in group.stages],
            }
            for group in workflow.groups
        ],
        # In no plan any more, but still executed for old runs.
        "retired": [stage.id for stage in workflow.retired],
        "timeout": workflow.timeout.total_seconds() if workflow.timeout else None,
        "input_schema": workflow.input_schema(),
        "config_schema": workflow.config_schema(),
        "output_schema": workflow.output_schema(),
    }


def _stage(stage: Stage[Any, Any, Any], mapped: ItemMap | None) -> dict[str, Any]:
    retry = stage.retry
    return {
        "stage_id": stage.id,
        "name": stage.name,
        "description": stage.description,
        "queue": stage.queue,
        "dependencies": list(stage.dependencies),
        "timeout": stage.timeout.total_seconds() if stage.timeout else None,
        "when": None if stage.when is None else str(stage.when),
        "waits": [dict(wait.as_json()) for wait in stage.waits],
        "has_check": stage.check is not None,
        # The stage runs once per item; null: it does not.
        "map": None if mapped is None else _map(mapped),
        "retry": {
            "max_attempts": retry.max_attempts,
            "initial": retry.initial.total_seconds(),
            "factor": retry.factor,
            "maximum": retry.maximum.total_seconds(),
            "jitter": retry.jitter,
        },
    }


def _map(mapped: ItemMap) -> dict[str, Any]:
    return {
        "max_parallel": mapped.max_parallel,
        "on_item_error": mapped.on_item_error,
        "min_success": mapped.min_success,
    }
