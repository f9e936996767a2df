"""What users write: typed stages and workflows. Plain Python and pydantic: no Django, no database, no I/O."""

from .annotations import AnnotationKey, Approval, Decision, Revision, Trigger
from .building import define_workflow
from .conditions import Output
from .context import StageContext
from .registry import get_workflow, register, registered_workflows, registry_override
from .results import RunCancelledError
from .retry import NonRetryableError, Retry, RetryAfter
from .stages import Stage, stage
from .waits import Completion, Wait
from .workflows import Group, Workflow

__all__ = [
    "AnnotationKey",
    "Approval",
    "Completion",
    "Decision",
    "Group",
    "NonRetryableError",
    "Output",
    "Retry",
    "RetryAfter",
    "Revision",
    "RunCancelledError",
    "Stage",
    "StageContext",
    "Trigger",
    "Wait",
    "Workflow",
    "define_workflow",
    "get_workflow",
    "register",
    "registered_workflows",
    "registry_override",
    "stage",
]
