"""The console in Django's admin: every table to look at; what changes something is a command with a permission."""

from .annotations import WorkflowAnnotationAdmin
from .artifacts import WorkflowArtifactAdmin
from .attempts import StageAttemptAdmin
from .idempotency import IdempotencyKeyAdmin
from .logs import WorkflowLogAdmin
from .memos import StageMemoAdmin
from .outbox import OutboxEventAdmin
from .pausing import PauseAdmin
from .runs import WorkflowRunAdmin
from .stage_runs import StageRunAdmin
from .workers import WorkerHeartbeatAdmin

__all__ = [
    "IdempotencyKeyAdmin",
    "OutboxEventAdmin",
    "PauseAdmin",
    "StageAttemptAdmin",
    "StageMemoAdmin",
    "StageRunAdmin",
    "WorkerHeartbeatAdmin",
    "WorkflowAnnotationAdmin",
    "WorkflowArtifactAdmin",
    "WorkflowLogAdmin",
    "WorkflowRunAdmin",
]
