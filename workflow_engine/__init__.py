"""Durable multi-stage workflows for Django. The names here are the public ones; they load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .definitions import (
        AnnotationKey,
        Approval,
        Completion,
        Decision,
        NonRetryableError,
        Output,
        Retry,
        RetryAfter,
        Revision,
        RunCancelledError,
        Stage,
        StageContext,
        Trigger,
        Wait,
        Workflow,
        define_workflow,
        get_workflow,
        register,
        registered_workflows,
        stage,
    )
    from .hosts.wait import RunResult, run_and_wait
    from .pausing import (
        apause_run,
        aresume_run,
        pause_queue,
        pause_run,
        pause_workflow,
        resume_queue,
        resume_run,
        resume_workflow,
    )
    from .running import (
        aannotate_run,
        aanswer_stage,
        acancel_run,
        acreate_run,
        annotate_run,
        answer_stage,
        arerun_from,
        cancel_run,
        create_run,
        plan_rerun,
        rerun_from,
    )

# Django imports this package before its apps are ready, so models must not load with it.
_HOMES = {
    "workflow_engine.definitions": (
        "AnnotationKey Approval Completion Decision NonRetryableError Output Retry RetryAfter Revision "
        "RunCancelledError Stage StageContext Trigger Wait Workflow define_workflow get_workflow register "
        "registered_workflows stage"
    ),
    "workflow_engine.running": (
        "aannotate_run aanswer_stage acancel_run acreate_run annotate_run answer_stage arerun_from cancel_run "
        "create_run plan_rerun rerun_from"
    ),
    "workflow_engine.pausing": (
        "apause_run aresume_run pause_queue pause_run pause_workflow resume_queue resume_run resume_workflow"
    ),
    "workflow_engine.hosts.wait": "RunResult run_and_wait",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AnnotationKey",
    "Approval",
    "Completion",
    "Decision",
    "NonRetryableError",
    "Output",
    "Retry",
    "RetryAfter",
    "Revision",
    "RunCancelledError",
    "RunResult",
    "Stage",
    "StageContext",
    "Trigger",
    "Wait",
    "Workflow",
    "aannotate_run",
    "aanswer_stage",
    "acancel_run",
    "acreate_run",
    "annotate_run",
    "answer_stage",
    "apause_run",
    "arerun_from",
    "aresume_run",
    "cancel_run",
    "create_run",
    "define_workflow",
    "get_workflow",
    "pause_queue",
    "pause_run",
    "pause_workflow",
    "plan_rerun",
    "register",
    "registered_workflows",
    "rerun_from",
    "resume_queue",
    "resume_run",
    "resume_workflow",
    "run_and_wait",
    "stage",
]


def __getattr__(name: str) -> Any:
    try:
        return getattr(import_module(_HOME_OF[name]), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
