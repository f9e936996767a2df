"""A workflow as lines of text: groups from top to bottom, the stages of a group side by side in one bracket."""

from __future__ import annotations

from typing import Any

from workflow_engine.definitions import Workflow

from .facts import facts_of
from .words import one_line, pad, width_of


def as_text(workflow: Workflow[Any, Any]) -> str:
    """Return the drawing, without a newline at its end.

    .. code-block:: text

        1 ─── extract-text       Extract text       3 attempts (waits 2 s, 4 s) · timeout 10 min
        2 ─┬─ detect-language    Detect language    no retry · no timeout
           └─ find-key-phrases   Find key phrases   no retry · no timeout
        3 ─×─ translate-page     Translate page     × items, 20 at a time · failed items are collected · no retry · …
    """
    head = f"{workflow.id}: {one_line(workflow.name)}, version {one_line(workflow.version)}"
    lines = [head, *([one_line(workflow.description)] if workflow.description else []), ""]
    ids = max(len(stage.id) for stage in workflow)
    names = max(width_of(one_line(stage.name)) for stage in workflow)
    digits = len(str(len(workflow.groups)))
    for group in workflow.groups:
        for position, stage in enumerate(group.stages):
            number = str(group.number) if position == 0 else ""
            bracket = "─×─" if group.map else _bracket(position, len(group.stages))
            facts = " · ".join(facts_of(stage, group.map))
            name = pad(one_line(stage.name), names)
            lines.append(f"{number:>{digits}} {bracket} {stage.id:<{ids}}  {name}  {facts}")
    return "\n".join(lines)


def _bracket(position: int, count: int) -> str:
    if count == 1:
        return "───"
    if position == 0:
        return "─┬─"
    return " └─" if position == count - 1 else " ├─"
