"""Who may do what: Django's model permissions. What a view does not name is closed."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

VIEW, ADD = "workflow_engine.view_workflowrun", "workflow_engine.add_workflowrun"
CANCEL, RERUN = "workflow_engine.cancel_workflowrun", "workflow_engine.rerun_workflowrun"
PAUSE, PAYLOAD = "workflow_engine.pause_workflowrun", "workflow_engine.view_payload"
VIEW_BULK = "workflow_engine.view_bulkoperation"
VIEW_DEAD_LETTERS, REPLAY = "workflow_engine.view_deadletter", "workflow_engine.replay_deadletter"
VIEW_SCHEDULE, ADD_SCHEDULE = "workflow_engine.view_schedule", "workflow_engine.add_schedule"
CHANGE_SCHEDULE, DELETE_SCHEDULE = "workflow_engine.change_schedule", "workflow_engine.delete_schedule"
RUN_SCHEDULE = "workflow_engine.run_schedule"
VIEW_SCHEDULED = "workflow_engine.view_scheduledcommand"
CANCEL_SCHEDULED = "workflow_engine.cancel_scheduledcommand"
ANSWER = "workflow_engine.answer_stagerun"
VIEW_WEBHOOKS, ADD_WEBHOOKS = "workflow_engine.view_webhookendpoint", "workflow_engine.add_webhookendpoint"
CHANGE_WEBHOOKS, DELETE_WEBHOOKS = "workflow_engine.change_webhookendpoint", "workflow_engine.delete_webhookendpoint"
VIEW_WEBHOOK_DELIVERIES = "workflow_engine.view_webhookdelivery"


class EnginePermission(BasePermission):
    """Asks for the permission that the view's ``needs`` names for the method; a handler without one is closed."""

    def has_permission(self, request: Request, view: Any) -> bool:
        user = request.user
        if not (user and user.is_authenticated):
            return False
        method = (request.method or "").lower()
        if method not in view.http_method_names or not hasattr(view, method):
            return True  # to be answered with 405
        needed = view.needs.get("get" if method == "head" else method)
        return needed is not None and user.has_perm(needed)


def may_see_payloads(request: Request) -> bool:
    """Inputs and outputs are for users with ``workflow_engine.view_payload``."""
    return bool(request.user.has_perm(PAYLOAD))
