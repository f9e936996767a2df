"""Durable multi-stage workflows for Django. The names here are the public ones; they load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bulk import (
        CreatedRun,
        NewRun,
        acancel_bulk,
        acancel_runs,
        acreate_runs,
        apause_runs,
        arerun_runs,
        aresume_runs,
        cancel_bulk,
        cancel_runs,
        create_runs,
        pause_runs,
        rerun_runs,
        resume_runs,
    )
    from .definitions import (
        AnnotationKey,
        Approval,
        Completion,
        Decision,
        ItemError,
        Items,
        Limit,
        NonRetryableError,
        Output,
        Rate,
        Retry,
        RetryAfter,
        Revision,
        RunCancelledError,
        RunEvent,
        Stage,
        StageContext,
        Trigger,
        Wait,
        Workflow,
        declare_schedule,
        define_workflow,
        get_workflow,
        plugin,
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
    from .scheduling import (
        acancel_scheduled,
        aschedule,
        cancel_scheduled,
        change_schedule,
        create_schedule,
        delete_schedule,
        next_times,
        run_schedule,
        schedule,
    )

# Django imports this package before its apps are ready, so models must not load with it.
_HOMES = {
    "workflow_engine.bulk": (
        "CreatedRun NewRun acancel_bulk acancel_runs acreate_runs apause_runs arerun_runs aresume_runs cancel_bulk "
        "cancel_runs create_runs pause_runs rerun_runs resume_runs"
    ),
    "workflow_engine.definitions": (
        "AnnotationKey Approval Completion Decision ItemError Items Limit NonRetryableError Output Rate Retry "
        "RetryAfter Revision RunCancelledError RunEvent Stage StageContext Trigger Wait Workflow declare_schedule "
        "define_workflow get_workflow plugin register registered_workflows stage"
    ),
    "workflow_engine.running": (
        "aannotate_run aanswer_stage acancel_run acreate_run annotate_run answer_stage arerun_from cancel_run "
        "create_run plan_rerun rerun_from"
    ),
    "workflow_engine.pausing": (
        "apause_run aresume_run pause_queue pause_run pause_workflow resume_queue resume_run resume_workflow"
    ),
    "workflow_engine.scheduling": (
        "acancel_scheduled aschedule cancel_scheduled change_schedule create_schedule delete_schedule next_times "
        "run_schedule schedule"
    ),
    "workflow_engine.hosts.wait": "RunResult run_and_wait",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AnnotationKey",
    "Approval",
    "Completion",
    "CreatedRun",
    "Decision",
    "ItemError",
    "Items",
    "Limit",
    "NewRun",
    "NonRetryableError",
    "Output",
    "Rate",
    "Retry",
    "RetryAfter",
    "Revision",
    "RunCancelledError",
    "RunEvent",
    "RunResult",
    "Stage",
    "StageContext",
    "Trigger",
    "Wait",
    "Workflow",
    "aannotate_run",
    "aanswer_stage",
    "acancel_bulk",
    "acancel_run",
    "acancel_runs",
    "acancel_scheduled",
    "acreate_run",
    "acreate_runs",
    "annotate_run",
    "answer_stage",
    "apause_run",
    "apause_runs",
    "arerun_from",
    "arerun_runs",
    "aresume_run",
    "aresume_runs",
    "aschedule",
    "cancel_bulk",
    "cancel_run",
    "cancel_runs",
    "cancel_scheduled",
    "change_schedule",
    "create_run",
    "create_runs",
    "create_schedule",
    "declare_schedule",
    "define_workflow",
    "delete_schedule",
    "get_workflow",
    "next_times",
    "pause_queue",
    "pause_run",
    "pause_runs",
    "pause_workflow",
    "plan_rerun",
    "plugin",
    "register",
    "registered_workflows",
    "rerun_from",
    "rerun_runs",
    "resume_queue",
    "resume_run",
    "resume_runs",
    "resume_workflow",
    "run_and_wait",
    "run_schedule",
    "schedule",
    "stage",
]


def __getattr__(name: str) -> Any:
    try:
        return getattr(import_module(_HOME_OF[name]), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
