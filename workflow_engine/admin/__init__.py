"""The console in Django's admin: every table to look at; what changes something is a command with a permission."""

from .annotations import WorkflowAnnotationAdmin
from .artifacts import WorkflowArtifactAdmin
from .attempts import StageAttemptAdmin
from .bulk import BulkOperationAdmin, BulkTargetAdmin
from .deliveries import DeadLetterAdmin, EventCursorAdmin
from .idempotency import IdempotencyKeyAdmin
from .limits import LimitStartAdmin, RunLimitAdmin, RunPlaceAdmin
from .logs import WorkflowLogAdmin
from .maps import StageMapAdmin
from .memos import StageMemoAdmin
from .notices import RunNoticeAdmin
from .outbox import OutboxEventAdmin
from .pausing import PauseAdmin
from .runs import WorkflowRunAdmin
from .scheduled_commands import ScheduledCommandAdmin
from .schedules import ScheduleAdmin, ScheduleFireAdmin
from .stage_runs import StageRunAdmin
from .webhooks import WebhookDeliveryAdmin, WebhookEndpointAdmin
from .workers import WorkerHeartbeatAdmin

__all__ = [
    "BulkOperationAdmin",
    "BulkTargetAdmin",
    "DeadLetterAdmin",
    "EventCursorAdmin",
    "IdempotencyKeyAdmin",
    "LimitStartAdmin",
    "OutboxEventAdmin",
    "PauseAdmin",
    "RunLimitAdmin",
    "RunNoticeAdmin",
    "RunPlaceAdmin",
    "ScheduleAdmin",
    "ScheduleFireAdmin",
    "ScheduledCommandAdmin",
    "StageAttemptAdmin",
    "StageMapAdmin",
    "StageMemoAdmin",
    "StageRunAdmin",
    "WebhookDeliveryAdmin",
    "WebhookEndpointAdmin",
    "WorkerHeartbeatAdmin",
    "WorkflowAnnotationAdmin",
    "WorkflowArtifactAdmin",
    "WorkflowLogAdmin",
    "WorkflowRunAdmin",
]
