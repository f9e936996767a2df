"""The attempt of a mapped stage itself: it makes the items, each of which is then an attempt of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from workflow_engine.definitions import Stage, Workflow
from workflow_engine.definitions.identifiers import output_key
from workflow_engine.definitions.items import ItemMap
from workflow_engine.definitions.results import Expanded
from workflow_engine.definitions.types import DataType
from workflow_engine.errors import FieldError, InvalidDefinition, InvalidInput, TooManyItems, field_errors
from workflow_engine.kernel import points
from workflow_engine.kernel.payloads import ValueMismatch, pack, write
from workflow_engine.kernel.ports import Ports

from .attempts import Attempt
from .storage import attempt_root

# Of thousands of items that do not fit, so many are named.
MOST_ERRORS = 20


def expand(ports: Ports, attempt: Attempt) -> Expanded:
    """Return the items of the stage, each checked to be what the stage takes.

    Raises:
        InvalidInput: ``over`` gave no list, or items that do not fit; the text says which, by index.
        TooManyItems: nothing was stored.
        InvalidDefinition: the code no longer maps the stage.
    """
    started, stage = attempt.held.stage, attempt.stage
    workflow = ports.registry.get_workflow(started.workflow_id)
    mapped = workflow.map_of(stage.id)
    if mapped is None:
        raise InvalidDefinition(
            f"Stage {stage.id!r} of workflow {workflow.id!r} is mapped in this run's plan, and not in the code any "
            "more. Keep .map() until the runs of the old version have ended."
        )
    items = _items(mapped, _group_input(attempt, workflow), stage)
    if len(items) > ports.limits.max_map_items:
        raise TooManyItems(stage.id, len(items), ports.limits.max_map_items)
    points.hit(points.EXEC_CLAIMED)
    found = _write_all(stage, items)
    del items
    root = attempt_root(started)
    for index, value in enumerate(found):
        # In its place: thousands of items are not to be in memory twice.
        found[index] = pack(
            value,
            lambda digest, index=index: f"{root}item-{index}-{digest}.json",  # type: ignore[misc]
            ports.blobs,
            ports.limits,
            f"item {index} of stage {stage.id!r}",
        )
    points.hit(points.EXEC_RETURNED)
    return Expanded(tuple(found), attempt.notes())


def _items(mapped: ItemMap, value: Any, stage: Stage[Any, Any, Any]) -> Sequence[Any]:
    items = value if mapped.over is None else mapped.over(value)
    if isinstance(items, str | bytes | bytearray) or not isinstance(items, Sequence):
        what = "over must return" if mapped.over is not None else "what the stage is mapped over must be"
        text = f"{what} a list or tuple, got {type(items).__name__}"
        raise InvalidInput(f"mapped stage {stage.id!r}", [FieldError("items", text)])
    return items


def _group_input(attempt: Attempt, workflow: Workflow[Any, Any]) -> Any:
    """Return what the group gets, as the types of those that gave it make it."""
    started, raw = attempt.held.stage, attempt.raw_input()
    try:
        if started.input.mapping:
            values, keys = json.loads(raw), {output_key(stage_id): stage_id for stage_id in started.input.envelopes}
            return {key: _output_type(workflow, keys[key]).read(json.dumps(values[key])) for key in values}
        (source,) = started.input.envelopes
        is_output = started.group_number > 1 and workflow.has_stage(source)
        return (_output_type(workflow, source) if is_output else workflow.input).read(raw)
    except ValidationError as error:
        raise InvalidInput(f"mapped stage {started.stage_id!r}", field_errors(error)) from error


def _output_type(workflow: Workflow[Any, Any], stage_id: str) -> DataType:
    if not workflow.has_stage(stage_id):
        return DataType(Any, f"Stage {stage_id!r} (output)")
    return workflow.output_type(stage_id)


def _write_all(stage: Stage[Any, Any, Any], items: Sequence[Any]) -> list[Any]:
    kind = stage.signature.input if stage.takes_input else DataType(Any, f"Stage {stage.id!r} (item)")
    written, errors = [], []
    for index, item in enumerate(items):
        try:
            written.append(write(kind, item))
        except ValueMismatch as mismatch:
            errors += [
                FieldError(f"items.{index}.{one.path}".rstrip("."), one.message, one.code) for one in mismatch.errors
            ]
            if len(errors) >= MOST_ERRORS:
                break
    if errors:
        raise InvalidInput(f"mapped stage {stage.id!r}", errors[:MOST_ERRORS])
    return written
