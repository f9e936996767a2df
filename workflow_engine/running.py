"""Creating, cancelling, answering, rerunning and annotating runs: the functions that users call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import models

from workflow_engine.bootstrap import get_kernel
from workflow_engine.conf import get_setting
from workflow_engine.definitions import Stage, Wait, Workflow
from workflow_engine.definitions.annotations import Annotations
from workflow_engine.errors import FieldError, InvalidInput, RunNotFound, as_text, shown
from workflow_engine.kernel.commands import Annotate, AnswerStage, CancelRun, CreateRun, RerunFrom
from workflow_engine.kernel.reruns import RerunPlan, preview, read_run
from workflow_engine.models import WorkflowRun
from workflow_engine.models.runs import DEFAULT_PRIORITY


def create_run(
    workflow: Workflow[Any, Any] | str,
    input: Any = None,
    *,
    config: Mapping[str, Any] | None = None,
    priority: int = DEFAULT_PRIORITY,
    metadata: Mapping[str, Any] | None = None,
    subject: models.Model | None = None,
    run_at: datetime | None = None,
    annotations: Annotations | None = None,
    idempotency_key: str | None = None,
    idempotency_scope: str = "",
    actor: Any = None,
) -> WorkflowRun:
    """Create a run and return its row. It joins the caller's transaction: the run exists exactly if that commits.

    Args:
        workflow: the definition or its id.
        input: a value of the input type, or what pydantic makes one of (a dict of JSON, say).
        config: stage id -> fields, merged over each stage's defaults.
        priority: 0 to 10, higher first.
        metadata: JSON of yours, kept with the run.
        subject: a row that the run is about.
        run_at: not before this time.
        annotations: facts to record with the run, by text or typed key (``Trigger.SOURCE``).
        idempotency_key: the same key again gives the same run (``was_created`` is False then).
        actor: who did it, a user or text.

    Raises:
        WorkflowNotFound, InvalidInput, InvalidConfig: nothing was written.
        PayloadTooLarge: the input is larger than ``MAX_PAYLOAD_BYTES``.
        RunNotFound: the key's run was deleted.
        IdempotencyConflict, IdempotencyInProgress: the key was used for other content, or is being used.
        DatabaseConflict: inside your transaction: repeat it.
    """
    kernel = get_kernel()
    command = CreateRun(
        workflow_id=workflow if isinstance(workflow, str) else workflow.id,
        input=input,
        config=config,
        priority=priority,
        metadata={} if metadata is None else metadata,
        annotations={} if annotations is None else annotations,
        subject=subject_of(subject),
        run_at=run_at,
        actor=actor_name(actor),
        idempotency_key=idempotency_key,
        idempotency_scope=idempotency_scope,
    )
    result = kernel.dispatch(command)
    if result.row is not None:
        return result.row
    run = WorkflowRun.objects.using(kernel.ports.using).select_related("data").filter(pk=result.run_id).first()
    if run is None:
        # The key outlived its run, which somebody has deleted.
        raise RunNotFound(result.run_id)
    run.was_created = result.created
    return run


def cancel_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """Cancel a run; False if it had already ended. Joins the caller's transaction. Raises ``RunNotFound``."""
    command = CancelRun(run_id=run_id_of(run), reason=reason, actor=actor_name(actor))
    return get_kernel().dispatch(command).cancelled


def answer_stage(
    run: WorkflowRun | uuid.UUID | str,
    stage: Stage[Any, Any, Any] | str,
    data: Any,
    *,
    wait: Wait[Any] | str | None = None,
    item: int | None = None,
    actor: Any = None,
    idempotency_key: str | None = None,
) -> bool:
    """Give a waiting stage its answer; False if this idempotency key did it before. Joins the caller's transaction.

    Args:
        data: what the declared ``Wait`` takes: a value of its type, or what pydantic makes one of.
        wait: the wait or its name; None: the one for which the stage waits now.
        item: index of the item, for a stage that is mapped over a list.
        actor: who answers, a user or text.

    Raises:
        RunNotFound, StageNotFound, NotWaiting, AlreadyAnswered: nothing was written.
        InvalidInput: the answer does not fit; every field that is wrong is named, and nothing was written.
        DatabaseConflict: inside your transaction: repeat it.
    """
    command = AnswerStage(
        run_id=run_id_of(run),
        stage_id=_stage_id(stage),
        data=data,
        wait=wait.name if isinstance(wait, Wait) else wait,
        item=item,
        actor=actor_name(actor),
        idempotency_key=idempotency_key,
    )
    return get_kernel().dispatch(command).answered


async def aanswer_stage(
    run: WorkflowRun | uuid.UUID | str, stage: Stage[Any, Any, Any] | str, data: Any, **options: Any
) -> bool:
    """``answer_stage`` in a transaction of its own, for async code."""
    return await sync_to_async(answer_stage, thread_sensitive=False)(run, stage, data, **options)


def plan_rerun(
    run: WorkflowRun | uuid.UUID | str,
    stage: Stage[Any, Any, Any] | str,
    *,
    config: Mapping[str, Any] | None = None,
    only_failed_items: bool = False,
) -> RerunPlan:
    """Say what ``rerun_from`` would keep and run again. Writes nothing; raises what ``rerun_from`` raises."""
    ports = get_kernel().ports
    return preview(ports, run_id_of(run), _stage_id(stage), config, only_failed_items=only_failed_items)


def rerun_from(
    run: WorkflowRun | uuid.UUID | str,
    stage: Stage[Any, Any, Any] | str,
    *,
    config: Mapping[str, Any] | None = None,
    only_failed_items: bool = False,
    actor: Any = None,
    idempotency_key: str | None = None,
    idempotency_scope: str = "",
) -> WorkflowRun:
    """Let a run that has ended go on from a stage, and return it as it is then. Joins the caller's transaction.

    The stage's whole group and all later ones run again; what came before is kept, with its outputs.

    Args:
        stage: the definition or its id.
        config: stage id -> fields, laid over what the run has stored; for stages that run again.
        only_failed_items: the stage is mapped, and of its items only those that have not succeeded run again.
        actor: who did it, a user or text.
        idempotency_key: the same key again does nothing more.

    Raises:
        RunNotFound, StageNotFound, InvalidConfig: nothing was written.
        WorkflowNotFound: there is config, and the workflow is not registered here.
        InvalidTransition: the run has not ended, a stage in an earlier group has not succeeded, or no item has failed.
        IdempotencyConflict, IdempotencyInProgress: the key was used for other content, or is being used.
        DatabaseConflict: inside your transaction: repeat it.
    """
    kernel = get_kernel()
    command = RerunFrom(
        run_id=run_id_of(run),
        stage_id=_stage_id(stage),
        config=config,
        only_failed_items=only_failed_items,
        actor=actor_name(actor),
        idempotency_key=idempotency_key,
        idempotency_scope=idempotency_scope,
    )
    return read_run(kernel.ports, kernel.dispatch(command).run_id)


def annotate_run(
    run: WorkflowRun | uuid.UUID | str,
    values: Annotations,
    *,
    actor: Any = None,
    idempotency_key: str | None = None,
    emit_event: bool = False,
) -> int:
    """Record facts about a run in any status; return how many were new. Joins the caller's transaction.

    Args:
        values: text or typed key (``Approval.APPROVERS``) -> JSON; None values are left out.
        idempotency_key: a fact of the same key and idempotency key is stored once.
        emit_event: also write ``annotation.created`` for each new fact.

    Raises:
        RunNotFound, InvalidInput: nothing was written.
    """
    command = Annotate(
        run_id=run_id_of(run),
        values=values,
        actor=actor_name(actor),
        idempotency_key=idempotency_key,
        emit_event=emit_event,
    )
    return get_kernel().dispatch(command).stored


async def aannotate_run(run: WorkflowRun | uuid.UUID | str, values: Annotations, **options: Any) -> int:
    """``annotate_run`` in a transaction of its own, for async code."""
    return await sync_to_async(annotate_run, thread_sensitive=False)(run, values, **options)


async def acreate_run(workflow: Workflow[Any, Any] | str, input: Any = None, **options: Any) -> WorkflowRun:
    """``create_run`` in a transaction of its own, for async code."""
    return await sync_to_async(create_run, thread_sensitive=False)(workflow, input, **options)


async def acancel_run(run: WorkflowRun | uuid.UUID | str, *, reason: str = "", actor: Any = None) -> bool:
    """``cancel_run`` in a transaction of its own, for async code."""
    return await sync_to_async(cancel_run, thread_sensitive=False)(run, reason=reason, actor=actor)


async def arerun_from(
    run: WorkflowRun | uuid.UUID | str, stage: Stage[Any, Any, Any] | str, **options: Any
) -> WorkflowRun:
    """``rerun_from`` in a transaction of its own, for async code."""
    return await sync_to_async(rerun_from, thread_sensitive=False)(run, stage, **options)


def run_id_of(run: WorkflowRun | uuid.UUID | str) -> uuid.UUID:
    """Return the id of a run given as row, id or text. Raises ``RunNotFound`` for text that is no id."""
    if isinstance(run, WorkflowRun):
        return run.pk
    try:
        return run if isinstance(run, uuid.UUID) else uuid.UUID(run)
    except (ValueError, AttributeError, TypeError):
        raise RunNotFound(run) from None


def actor_name(actor: Any) -> str:
    """Return who acts as text: a user's name, text as it is, nothing for nobody."""
    if actor is None:
        return ""
    if hasattr(actor, "get_username"):
        return str(actor.get_username())
    return as_text(actor)


def _stage_id(stage: Stage[Any, Any, Any] | str) -> str:
    """Return the id of a stage given as such, or as its id. Raises ``InvalidInput``."""
    if not isinstance(stage, str | Stage):
        raise InvalidInput("a stage", [FieldError("stage", f"must be a stage or its id, got {shown(stage)}"[:200])])
    return stage if isinstance(stage, str) else stage.id


def subject_of(subject: models.Model | None) -> tuple[int, str] | None:
    """Return what a run stores of the row that it is about. Raises ``InvalidInput`` for a row that is not saved."""
    from django.contrib.contenttypes.models import ContentType

    if subject is None:
        return None
    if subject.pk is None or len(str(subject.pk)) > 100:
        problem = FieldError("subject", "must be a saved row with a key of at most 100 characters")
        raise InvalidInput("a run", [problem])
    return ContentType.objects.db_manager(get_setting("DATABASE")).get_for_model(subject).pk, str(subject.pk)
