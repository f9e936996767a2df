"""What users write: typed stages and workflows. Plain Python and pydantic: no Django, no database, no I/O."""

from .context import StageContext
from .registry import get_workflow, register, registered_workflows, registry_override
from .results import RunCancelledError
from .retry import NonRetryableError, Retry, RetryAfter
from .stages import Stage, stage
from .workflows import Group, Workflow, define_workflow

__all__ = [
    "Group",
    "NonRetryableError",
    "Retry",
    "RetryAfter",
    "RunCancelledError",
    "Stage",
    "StageContext",
    "Workflow",
    "define_workflow",
    "get_workflow",
    "register",
    "registered_workflows",
    "registry_override",
    "stage",
]
