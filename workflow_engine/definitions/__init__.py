"""What users write: typed stages and workflows. Plain Python and pydantic: no Django, no database, no I/O."""

from .annotations import AnnotationKey, Approval, Decision, Revision, Trigger
from .building import define_workflow
from .conditions import Output
from .context import StageContext
from .items import ItemError, Items
from .limits import Limit, Rate
from .plugins import RunEvent, plugin
from .registry import get_workflow, register, registered_workflows, registry_override
from .results import RunCancelledError
from .retry import NonRetryableError, Retry, RetryAfter
from .schedules import DeclaredSchedule, declare_schedule, declared_schedules
from .stages import Stage, stage
from .waits import Completion, Wait
from .workflows import Group, Workflow

__all__ = [
    "AnnotationKey",
    "Approval",
    "Completion",
    "Decision",
    "DeclaredSchedule",
    "Group",
    "ItemError",
    "Items",
    "Limit",
    "NonRetryableError",
    "Output",
    "Rate",
    "Retry",
    "RetryAfter",
    "Revision",
    "RunCancelledError",
    "RunEvent",
    "Stage",
    "StageContext",
    "Trigger",
    "Wait",
    "Workflow",
    "declare_schedule",
    "declared_schedules",
    "define_workflow",
    "get_workflow",
    "plugin",
    "register",
    "registered_workflows",
    "registry_override",
    "stage",
]
