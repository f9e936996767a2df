"""The tables: one file each, the queryset beside the model. Only these modules write a status."""

from .annotations import WorkflowAnnotation
from .artifacts import WorkflowArtifact
from .attempts import StageAttempt
from .idempotency import IdempotencyKey
from .logs import LogLevel, WorkflowLog
from .memos import StageMemo
from .outbox import OutboxEvent
from .pauses import Pause
from .runs import RunData, WorkflowRun
from .stage_runs import NOT_AN_ITEM, StageRun
from .workers import WorkerHeartbeat

__all__ = [
    "NOT_AN_ITEM",
    "IdempotencyKey",
    "LogLevel",
    "OutboxEvent",
    "Pause",
    "RunData",
    "StageAttempt",
    "StageMemo",
    "StageRun",
    "WorkerHeartbeat",
    "WorkflowAnnotation",
    "WorkflowArtifact",
    "WorkflowLog",
    "WorkflowRun",
]
