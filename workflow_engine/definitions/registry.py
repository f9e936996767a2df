"""The workflows this process knows, by id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workflow_engine.errors import DuplicateWorkflow, InvalidDefinition, WorkflowNotFound

from .context import In, Out
from .workflows import Workflow

_workflows: dict[str, Workflow[Any, Any]] = {}


def register(workflow: Workflow[In, Out]) -> Workflow[In, Out]:
    """Make the workflow known under its id and return it.

    Raises:
        DuplicateWorkflow: another workflow has this id.
        InvalidDefinition: it is not a built workflow.
    """
    if not isinstance(workflow, Workflow):
        raise InvalidDefinition(f"register() takes a built workflow, got {workflow!r}. Did you forget .build()?")
    if _workflows.setdefault(workflow.id, workflow) is not workflow:
        raise DuplicateWorkflow(
            f"A workflow {workflow.id!r} is registered already. Ids are unique in a project: rename one of the two."
        )
    return workflow


def get_workflow(workflow_id: str) -> Workflow[Any, Any]:
    """Return the workflow. Raises ``WorkflowNotFound``, naming those that are registered."""
    try:
        return _workflows[workflow_id]
    except (KeyError, TypeError):
        raise WorkflowNotFound(workflow_id, sorted(_workflows)) from None


def registered_workflows() -> list[Workflow[Any, Any]]:
    """Return every registered workflow, by id."""
    return [_workflows[key] for key in sorted(_workflows)]


@contextmanager
def registry_override(*workflows: Workflow[Any, Any], keep: bool = False) -> Iterator[None]:
    """Let only ``workflows`` be registered inside the block (``keep``: besides those that already are). For tests."""
    before = dict(_workflows)
    if not keep:
        _workflows.clear()
    try:
        for workflow in workflows:
            register(workflow)
        yield
    finally:
        _workflows.clear()
        _workflows.update(before)
