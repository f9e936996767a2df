"""The workflows of a schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workflow_engine.definitions import Workflow
from workflow_engine.errors import WorkflowNotFound

from .plans import Plan


class PlanRegistry:
    """Implements ``Registry`` for some plans."""

    def __init__(self, plans: Iterable[Plan]) -> None:
        self.plans = {plan.id: plan for plan in plans}
        self._known = {plan.id: plan.workflow for plan in self.plans.values()}
        self._known |= {workflow.id: workflow for plan in self.plans.values() for workflow in plan.needs}
        self._listed = list(self._known.values())

    def get_workflow(self, workflow_id: str) -> Workflow[Any, Any]:
        try:
            return self._known[workflow_id]
        except KeyError:
            raise WorkflowNotFound(workflow_id, list(self._known)) from None

    def registered_workflows(self) -> list[Workflow[Any, Any]]:
        return self._listed
