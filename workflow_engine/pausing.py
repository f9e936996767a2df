"""Pausing and resuming runs, workflows and queues: the functions that users call."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import sync_to_async

from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Workflow
from workflow_engine.kernel.commands import PauseRun, PauseWork, ResumeRun, ResumeWork
from workflow_engine.models import WorkflowRun
from workflow_engine.running import actor_name, run_id_of
from workflow_engine.statuses import PauseScope


def pause_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """Let nothing new of a run start; False if it is paused already or has ended. What runs finishes.

    Joins the caller's transaction. Raises ``RunNotFound``.
    """
    command = PauseRun(run_id=run_id_of(run), reason=reason, actor=actor_name(actor))
    return get_kernel().dispatch(command).changed


def resume_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """Let a paused run go on; False if it is not paused. Joins the caller's transaction. Raises ``RunNotFound``."""
    command = ResumeRun(run_id=run_id_of(run), reason=reason, actor=actor_name(actor))
    return get_kernel().dispatch(command).changed


def pause_workflow(workflow: Workflow[Any, Any] | str, *, reason: str = "", actor: Any = None) -> bool:
    """Let nothing new of any run of a workflow start, within a second; False if it is paused already.

    What runs finishes, and runs may be created. Raises ``WorkflowNotFound``.
    """
    return _pause(PauseScope.WORKFLOW, _id_of(workflow), reason, actor)


def resume_workflow(workflow: Workflow[Any, Any] | str, *, reason: str = "", actor: Any = None) -> bool:
    """Let a paused workflow go on, within a second; False if it is not paused. Raises ``WorkflowNotFound``."""
    return _resume(PauseScope.WORKFLOW, _id_of(workflow), reason, actor)


def pause_queue(queue: str, *, reason: str = "", actor: Any = None) -> bool:
    """Let no stage of a queue start, within a second; False if it is paused already. What runs finishes."""
    return _pause(PauseScope.QUEUE, queue, reason, actor)


def resume_queue(queue: str, *, reason: str = "", actor: Any = None) -> bool:
    """Let a paused queue go on, within a second; False if it is not paused."""
    return _resume(PauseScope.QUEUE, queue, reason, actor)


def _id_of(workflow: Workflow[Any, Any] | str) -> str:
    return workflow if isinstance(workflow, str) else workflow.id


def _pause(scope: PauseScope, name: str, reason: str, actor: Any) -> bool:
    command = PauseWork(scope=scope, name=name, reason=reason, actor=actor_name(actor))
    return get_kernel().dispatch(command).changed


def _resume(scope: PauseScope, name: str, reason: str, actor: Any) -> bool:
    command = ResumeWork(scope=scope, name=name, reason=reason, actor=actor_name(actor))
    return get_kernel().dispatch(command).changed


async def apause_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """``pause_run`` in a transaction of its own, for async code."""
    return await sync_to_async(pause_run, thread_sensitive=False)(run, reason=reason, actor=actor)


async def aresume_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """``resume_run`` in a transaction of its own, for async code."""
    return await sync_to_async(resume_run, thread_sensitive=False)(run, reason=reason, actor=actor)
