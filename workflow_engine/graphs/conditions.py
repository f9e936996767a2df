"""The conditions of a plan in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow_engine.definitions.conditions import condition_text

from .words import one_line


def conditions_of(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions of a run's plan by stage id: ``{"book": "classify.kind == 'invoice'"}``."""
    stages = (item for group in plan["groups"] for item in group["stages"])
    return {item["id"]: one_line(condition_text(item["when"])) for item in stages if item.get("when")}
