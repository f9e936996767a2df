"""The tables: one file each, the queryset beside the model. Only these modules write a status."""

from .annotations import WorkflowAnnotation
from .artifacts import WorkflowArtifact
from .attempts import StageAttempt
from .bulk import BulkOperation, BulkTarget
from .cursors import EventCursor
from .dead_letters import DeadLetter
from .idempotency import IdempotencyKey
from .limits import LimitStart, RunLimit, RunPlace
from .logs import LogLevel, WorkflowLog
from .maps import StageMap
from .memos import StageMemo
from .notices import RunNotice
from .outbox import OutboxEvent
from .pauses import Pause
from .runs import RunData, WorkflowRun
from .scheduled_commands import ScheduledCommand
from .schedules import Schedule, ScheduleFire
from .stage_runs import NOT_AN_ITEM, StageRun
from .webhooks import WebhookDelivery, WebhookEndpoint
from .workers import WorkerHeartbeat

__all__ = [
    "NOT_AN_ITEM",
    "BulkOperation",
    "BulkTarget",
    "DeadLetter",
    "EventCursor",
    "IdempotencyKey",
    "LimitStart",
    "LogLevel",
    "OutboxEvent",
    "Pause",
    "RunData",
    "RunLimit",
    "RunNotice",
    "RunPlace",
    "Schedule",
    "ScheduleFire",
    "ScheduledCommand",
    "StageAttempt",
    "StageMap",
    "StageMemo",
    "StageRun",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerHeartbeat",
    "WorkflowAnnotation",
    "WorkflowArtifact",
    "WorkflowLog",
    "WorkflowRun",
]
