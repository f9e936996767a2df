"""Addresses of the API."""

from __future__ import annotations

from django.db.transaction import non_atomic_requests
from django.urls import path

from workflow_engine.conf import get_setting

from .answers import StageAnswer
from .bulk import RunBulk
from .bulk_operations import BulkOperationCancel, BulkOperationDetail, BulkOperationList
from .dead_letters import DeadLetterList, DeadLetterReplay
from .items import StageItem, StageItems
from .pausing import RunPause, RunResume
from .reruns import RunRerun
from .run_parts import RunArtifacts, RunAttempts, RunEvents, RunLogs, RunStages
from .runs import RunCancel, RunDetail, RunList
from .scheduled_commands import ScheduledCommandCancel, ScheduledCommandList
from .schedules import ScheduleDetail, ScheduleList, ScheduleNext, SchedulePreview, ScheduleRun
from .webhooks import WebhookDeliveries, WebhookDetail, WebhookList, WebhookRotate, WebhookTest
from .workflows import WorkflowDetail, WorkflowList

app_name = "workflow_engine"

urlpatterns = [
    path("workflows/", WorkflowList.as_view(), name="workflows"),
    path("workflows/<slug:workflow_id>/", WorkflowDetail.as_view(), name="workflow"),
    path("runs/", RunList.as_view(), name="runs"),
    path("runs/bulk/", RunBulk.as_view(), name="run-bulk"),
    path("runs/<uuid:run_id>/", RunDetail.as_view(), name="run"),
    path("runs/<uuid:run_id>/cancel/", RunCancel.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/rerun/", RunRerun.as_view(), name="run-rerun"),
    path("runs/<uuid:run_id>/pause/", RunPause.as_view(), name="run-pause"),
    path("runs/<uuid:run_id>/resume/", RunResume.as_view(), name="run-resume"),
    path("runs/<uuid:run_id>/stages/", RunStages.as_view(), name="run-stages"),
    path("runs/<uuid:run_id>/stages/<slug:stage_id>/answer/", StageAnswer.as_view(), name="stage-answer"),
    path("runs/<uuid:run_id>/stages/<slug:stage_id>/items/", StageItems.as_view(), name="stage-items"),
    path("runs/<uuid:run_id>/stages/<slug:stage_id>/items/<int:item>/", StageItem.as_view(), name="stage-item"),
    path("runs/<uuid:run_id>/logs/", RunLogs.as_view(), name="run-logs"),
    path("runs/<uuid:run_id>/events/", RunEvents.as_view(), name="run-events"),
    path("runs/<uuid:run_id>/attempts/", RunAttempts.as_view(), name="run-attempts"),
    path("runs/<uuid:run_id>/artifacts/", RunArtifacts.as_view(), name="run-artifacts"),
    path("bulk-operations/", BulkOperationList.as_view(), name="bulk-operations"),
    path("bulk-operations/<uuid:operation_id>/", BulkOperationDetail.as_view(), name="bulk-operation"),
    path("bulk-operations/<uuid:operation_id>/cancel/", BulkOperationCancel.as_view(), name="bulk-operation-cancel"),
    path("schedules/", ScheduleList.as_view(), name="schedules"),
    path("schedules/preview/", SchedulePreview.as_view(), name="schedule-preview"),
    path("schedules/<uuid:schedule_id>/", ScheduleDetail.as_view(), name="schedule"),
    path("schedules/<uuid:schedule_id>/next/", ScheduleNext.as_view(), name="schedule-next"),
    path("schedules/<uuid:schedule_id>/run/", ScheduleRun.as_view(), name="schedule-run"),
    path("scheduled-commands/", ScheduledCommandList.as_view(), name="scheduled-commands"),
    path(
        "scheduled-commands/<uuid:command_id>/cancel/",
        ScheduledCommandCancel.as_view(),
        name="scheduled-command-cancel",
    ),
    path("dead-letters/", DeadLetterList.as_view(), name="dead-letters"),
    path("dead-letters/replay/", DeadLetterReplay.as_view(), name="dead-letters-replay"),
    path("webhooks/", WebhookList.as_view(), name="webhooks"),
    path("webhooks/<uuid:endpoint_id>/", WebhookDetail.as_view(), name="webhook"),
    # It waits for somebody else's answer: no transaction of ATOMIC_REQUESTS is to be open meanwhile.
    path(
        "webhooks/<uuid:endpoint_id>/test/",
        non_atomic_requests(get_setting("DATABASE"))(WebhookTest.as_view()),
        name="webhook-test",
    ),
    path("webhooks/<uuid:endpoint_id>/rotate/", WebhookRotate.as_view(), name="webhook-rotate"),
    path("webhooks/<uuid:endpoint_id>/deliveries/", WebhookDeliveries.as_view(), name="webhook-deliveries"),
]
