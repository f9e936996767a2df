"""Whether a stage's condition reads what earlier stages of its workflow give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_engine.errors import InvalidDefinition

from .conditions import condition_fields
from .stages import Stage


def check_condition(where: str, stage: Stage[Any, Any, Any], earlier: Mapping[str, Stage[Any, Any, Any]]) -> None:
    """Raises ``InvalidDefinition`` if the condition could only ever find nothing."""
    if stage.when is None:
        return
    reads = f"{where}: the condition of stage {stage.id!r} ({stage.when}) reads"
    if unknown := sorted(stage.when.stages - set(earlier)):
        raise InvalidDefinition(
            f"{reads} the output of {unknown[0]!r}, which no earlier group has. Earlier stages: {_names(earlier)}."
        )
    for stage_id, name in condition_fields(stage.when.data):
        keys = earlier[stage_id].signature.output.keys()
        if keys is not None and name not in keys:
            raise InvalidDefinition(f"{reads} {name!r} of {stage_id!r}, whose output has only: {_names(sorted(keys))}.")


def _names(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"
