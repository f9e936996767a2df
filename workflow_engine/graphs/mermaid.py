"""A workflow as a Mermaid flowchart, for Markdown pages that draw it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from workflow_engine.definitions import Group, Stage, Workflow
from workflow_engine.definitions.items import ItemMap

from .facts import facts_of
from .words import one_line

# Mermaid's own entities: a label is neither HTML nor Markdown once these are gone.
_ENTITIES = {ord(letter): f"#{ord(letter)};" for letter in '#"&<>`*_[]{}()|\\~;'}


def as_mermaid(workflow: Workflow[Any, Any]) -> str:
    """Return the flowchart, without a newline at its end. Groups of several stages are boxes around them."""
    lines = ["flowchart LR", f"    accTitle: {_escape(workflow.name)}"]
    for group in workflow.groups:
        lines += _group(workflow, group)
    names = [_end(workflow, group) for group in workflow.groups]
    lines += [f"    {before} --> {after}" for before, after in pairwise(names)]
    return "\n".join(lines)


def _group(workflow: Workflow[Any, Any], group: Group) -> list[str]:
    stages = [_stage(workflow, stage, group.map) for stage in group.stages]
    if len(stages) == 1:
        return [f"    {stages[0]}"]
    head = [f'    subgraph {_end(workflow, group)}["Group {group.number}"]', "        direction LR"]
    return [*head, *(f"        {line}" for line in stages), "    end"]


def _stage(workflow: Workflow[Any, Any], stage: Stage[Any, Any, Any], mapped: ItemMap | None) -> str:
    label = "<br/>".join(_escape(line) for line in (stage.name, stage.id, *facts_of(stage, mapped)))
    # One that is mapped has double edges.
    left, right = ("[", "]") if mapped is None else ("[[", "]]")
    return f'{_node(workflow, stage)}{left}"{label}"{right}'


def _end(workflow: Workflow[Any, Any], group: Group) -> str:
    """Return what an arrow from or to the group ends at."""
    return _node(workflow, group.stages[0]) if len(group.stages) == 1 else f"group{group.number}"


def _node(workflow: Workflow[Any, Any], stage: Stage[Any, Any, Any]) -> str:
    # Numbered, because words such as "end" mean something to Mermaid.
    return f"stage{workflow.stage_number(stage.id)}"


def _escape(text: str) -> str:
    return one_line(text).translate(_ENTITIES)
