"""``workflows/``: what can be run, and the JSON Schemas of its input, config and output."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from workflow_engine.definitions import get_workflow, registered_workflows
from workflow_engine.graphs import as_data

from .base import EngineView
from .permissions import VIEW


class WorkflowList(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request) -> Response:
        """Return every registered workflow, by id, without its schemas."""
        return Response({"results": [self._entry(workflow) for workflow in registered_workflows()]})

    def _entry(self, workflow: Any) -> dict[str, Any]:
        return {
            "workflow_id": workflow.id,
            "name": workflow.name,
            "description": workflow.description,
            "version": workflow.version,
            "stages": list(workflow.stage_ids),
            "url": self.address("workflow", workflow_id=workflow.id),
        }


class WorkflowDetail(EngineView):
    needs = {"get": VIEW}

    def get(self, request: Request, workflow_id: str) -> Response:
        """Return groups and stages, ``input_schema``, ``config_schema`` (by stage), ``output_schema`` and the plan."""
        workflow = get_workflow(workflow_id)
        outputs = {stage.id: stage.signature.output.json_schema("serialization") for stage in workflow}
        return Response({**as_data(workflow), "stage_output_schemas": outputs, "plan": workflow.plan()})
