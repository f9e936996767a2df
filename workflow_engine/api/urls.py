"""Addresses of the API."""

from __future__ import annotations

from django.urls import path

from .answers import StageAnswer
from .pausing import RunPause, RunResume
from .reruns import RunRerun
from .run_parts import RunArtifacts, RunAttempts, RunEvents, RunLogs, RunStages
from .runs import RunCancel, RunDetail, RunList
from .workflows import WorkflowDetail, WorkflowList

app_name = "workflow_engine"

urlpatterns = [
    path("workflows/", WorkflowList.as_view(), name="workflows"),
    path("workflows/<slug:workflow_id>/", WorkflowDetail.as_view(), name="workflow"),
    path("runs/", RunList.as_view(), name="runs"),
    path("runs/<uuid:run_id>/", RunDetail.as_view(), name="run"),
    path("runs/<uuid:run_id>/cancel/", RunCancel.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/rerun/", RunRerun.as_view(), name="run-rerun"),
    path("runs/<uuid:run_id>/pause/", RunPause.as_view(), name="run-pause"),
    path("runs/<uuid:run_id>/resume/", RunResume.as_view(), name="run-resume"),
    path("runs/<uuid:run_id>/stages/", RunStages.as_view(), name="run-stages"),
    path("runs/<uuid:run_id>/stages/<slug:stage_id>/answer/", StageAnswer.as_view(), name="stage-answer"),
    path("runs/<uuid:run_id>/logs/", RunLogs.as_view(), name="run-logs"),
    path("runs/<uuid:run_id>/events/", RunEvents.as_view(), name="run-events"),
    path("runs/<uuid:run_id>/attempts/", RunAttempts.as_view(), name="run-attempts"),
    path("runs/<uuid:run_id>/artifacts/", RunArtifacts.as_view(), name="run-artifacts"),
]
