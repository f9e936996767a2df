"""Many runs at once: creating them, and changing them by one operation that goes on in the background."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, models

from workflow_engine.bootstrap import get_kernel
from workflow_engine.definitions import Stage, Workflow
from workflow_engine.definitions.annotations import Annotations
from workflow_engine.errors import (
    BulkOperationNotFound,
    DatabaseConflict,
    DatabaseUnavailable,
    FieldError,
    InvalidInput,
    WorkflowEngineError,
    shown,
)
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import CancelBulk, CreateRun, CreateRuns, OneOfRuns, StartBulk
from workflow_engine.models import BulkOperation, WorkflowRun
from workflow_engine.models.runs import DEFAULT_PRIORITY
from workflow_engine.running import actor_name, subject_of
from workflow_engine.statuses import BulkKind

# A queryset of runs, or rows and ids.
Runs = models.QuerySet[WorkflowRun] | Iterable[WorkflowRun | uuid.UUID | str]

CHUNK_SIZE = 200


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create; the arguments of ``create_run``."""

    workflow: Workflow[Any, Any] | str
    input: Any = None
    config: Mapping[str, Any] | None = None
    priority: int = DEFAULT_PRIORITY
    metadata: Mapping[str, Any] | None = None
    subject: models.Model | None = None
    run_at: datetime | None = None
    annotations: Annotations | None = None
    idempotency_key: str | None = None
    idempotency_scope: str = ""
    actor: Any = None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """What became of one request. Without an ``error`` there is a run, ``created`` now or by its key before."""

    # Its place among the requests, from 0.
    index: int
    run_id: uuid.UUID | None
    created: bool
    error: WorkflowEngineError | None = None


def create_runs(requests: Iterable[NewRun], *, actor: Any = None, chunk_size: int = CHUNK_SIZE) -> list[CreatedRun]:
    """Create a run per request and return one result for each, in their order.

    A request that is wrong has its error in its result, and the others are created. Requests are read and written in
    chunks, each in a transaction of its own; inside a transaction of yours all of it joins that, and nothing is
    committed before.

    Args:
        requests: also a generator: no more than a chunk of it is held in memory.
        actor: who does it, a user or text; for the requests that do not say.
        chunk_size: requests per transaction, 1 to 10,000.

    Raises:
        InvalidInput: ``chunk_size`` is no such number; nothing was written.
        DatabaseConflict, DatabaseUnavailable: a chunk could not be written, after its retries. ``error.done`` holds
            the results of the chunks before, which are committed (in your transaction: nothing is; repeat it).
            Calling again with the same requests is safe if they have idempotency keys.
    """
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or not 0 < chunk_size <= 10_000:
        problem = FieldError("chunk_size", f"must be a whole number from 1 to 10,000, got {shown(chunk_size)}")
        raise InvalidInput("create_runs", [problem])
    kernel, results = get_kernel(), list[CreatedRun]()
    joined = connections[kernel.ports.using].in_atomic_block
    for chunk in _chunks(requests, chunk_size):
        try:
            results += _create(kernel, chunk, len(results), actor)
        except (DatabaseConflict, DatabaseUnavailable) as error:
            error.done = () if joined else tuple(results)
            raise
    return results


async def acreate_runs(
    requests: Iterable[NewRun], *, actor: Any = None, chunk_size: int = CHUNK_SIZE
) -> list[CreatedRun]:
    """``create_runs`` in transactions of its own, for async code."""
    return await sync_to_async(create_runs, thread_sensitive=False)(requests, actor=actor, chunk_size=chunk_size)


def _chunks(requests: Iterable[NewRun], size: int) -> Iterator[list[NewRun]]:
    left = iter(requests)
    while chunk := list(islice(left, size)):
        yield chunk


def _create(kernel: Kernel, chunk: list[NewRun], first: int, actor: Any) -> list[CreatedRun]:
    read = [_read(request, first + place, actor) for place, request in enumerate(chunk)]
    commands = tuple(one for one in read if isinstance(one, CreateRun))
    outcomes = iter(kernel.dispatch(CreateRuns(runs=commands)).outcomes)
    results = []
    for index, one in enumerate(read, start=first):
        outcome = next(outcomes) if isinstance(one, CreateRun) else OneOfRuns(error=one)
        results.append(CreatedRun(index, outcome.run_id, outcome.created, outcome.error))
    return results


def _read(request: NewRun, index: int, actor: Any) -> CreateRun | WorkflowEngineError:
    """Return the command of a request, or why there is none."""
    if not isinstance(request, NewRun):
        problem = FieldError(f"requests.{index}", f"must be a NewRun, got {type(request).__name__}")
        return InvalidInput("create_runs", [problem])
    if not isinstance(request.workflow, str | Workflow):
        problem = FieldError("workflow", f"must be a workflow or its id, got {shown(request.workflow)}"[:200])
        return InvalidInput("a run", [problem])
    try:
        subject = subject_of(request.subject)
    except InvalidInput as error:
        return error
    return CreateRun(
        workflow_id=request.workflow if isinstance(request.workflow, str) else request.workflow.id,
        input=request.input,
        config=request.config,
        priority=request.priority,
        metadata={} if request.metadata is None else request.metadata,
        annotations={} if request.annotations is None else request.annotations,
        subject=subject,
        run_at=request.run_at,
        actor=actor_name(actor if request.actor is None else request.actor),
        idempotency_key=request.idempotency_key,
        idempotency_scope=request.idempotency_scope,
    )


def cancel_runs(
    runs: Runs, *, reason: str = "", actor: Any = None, idempotency_key: str | None = None
) -> BulkOperation:
    """Let the workers cancel many runs, one after the other; return the operation, which tells how far it is.

    Which runs are meant is decided now, and joins the caller's transaction. Those that have ended when their turn comes
    are left as they are.

    Args:
        runs: a queryset of ``WorkflowRun``, or an iterable of rows or ids.
        idempotency_key: the same key again gives the same operation, on the runs of the first time.

    Raises:
        InvalidInput: it is something else; nothing was written.
        IdempotencyConflict, IdempotencyInProgress: the key was used for another change, or is being used.
        DatabaseConflict: inside your transaction: repeat it.
    """
    return _start(BulkKind.CANCEL, runs, actor, idempotency_key, reason=reason)


def pause_runs(runs: Runs, *, reason: str = "", actor: Any = None, idempotency_key: str | None = None) -> BulkOperation:
    """Let the workers pause many runs; otherwise as ``cancel_runs``."""
    return _start(BulkKind.PAUSE, runs, actor, idempotency_key, reason=reason)


def resume_runs(
    runs: Runs, *, reason: str = "", actor: Any = None, idempotency_key: str | None = None
) -> BulkOperation:
    """Let the workers resume many runs; otherwise as ``cancel_runs``."""
    return _start(BulkKind.RESUME, runs, actor, idempotency_key, reason=reason)


def rerun_runs(
    runs: Runs,
    stage: Stage[Any, Any, Any] | str,
    *,
    config: Mapping[str, Any] | None = None,
    actor: Any = None,
    idempotency_key: str | None = None,
) -> BulkOperation:
    """Let the workers rerun many runs from a stage, as ``rerun_from`` does; otherwise as ``cancel_runs``.

    Runs that cannot be rerun from there (they have not ended, their plan has no such stage) have failed targets.
    """
    stage_id = stage.id if isinstance(stage, Stage) else stage
    return _start(BulkKind.RERUN, runs, actor, idempotency_key, stage_id=stage_id, config=config)


def cancel_bulk(operation: BulkOperation | uuid.UUID | str) -> bool:
    """Let a bulk operation go no further; False if it had ended. What it has done stays done.

    Joins the caller's transaction. Raises ``BulkOperationNotFound``.
    """
    return get_kernel().dispatch(CancelBulk(operation_id=operation_id_of(operation))).cancelled


def operation_id_of(operation: BulkOperation | uuid.UUID | str) -> uuid.UUID:
    """Return the id of an operation given as row, id or text. Raises ``BulkOperationNotFound`` for what is no id."""
    if isinstance(operation, BulkOperation):
        return operation.pk
    try:
        return operation if isinstance(operation, uuid.UUID) else uuid.UUID(operation)
    except (ValueError, AttributeError, TypeError):
        raise BulkOperationNotFound(operation) from None


def find_operation(operation: BulkOperation | uuid.UUID | str) -> BulkOperation:
    """Return the operation as it is now. Raises ``BulkOperationNotFound``."""
    operation_id = operation_id_of(operation)
    found = BulkOperation.objects.using(get_kernel().ports.using).filter(pk=operation_id).first()
    if found is None:
        raise BulkOperationNotFound(operation_id)
    return found


def _start(kind: BulkKind, runs: Runs, actor: Any, idempotency_key: str | None, **arguments: Any) -> BulkOperation:
    command = StartBulk(kind=kind, runs=runs, actor=actor_name(actor), idempotency_key=idempotency_key, **arguments)
    return find_operation(get_kernel().dispatch(command).operation_id)


async def acancel_runs(runs: Runs, **options: Any) -> BulkOperation:
    """``cancel_runs`` in a transaction of its own, for async code."""
    return await sync_to_async(cancel_runs, thread_sensitive=False)(runs, **options)


async def apause_runs(runs: Runs, **options: Any) -> BulkOperation:
    """``pause_runs`` in a transaction of its own, for async code."""
    return await sync_to_async(pause_runs, thread_sensitive=False)(runs, **options)


async def aresume_runs(runs: Runs, **options: Any) -> BulkOperation:
    """``resume_runs`` in a transaction of its own, for async code."""
    return await sync_to_async(resume_runs, thread_sensitive=False)(runs, **options)


async def arerun_runs(runs: Runs, stage: Stage[Any, Any, Any] | str, **options: Any) -> BulkOperation:
    """``rerun_runs`` in a transaction of its own, for async code."""
    return await sync_to_async(rerun_runs, thread_sensitive=False)(runs, stage, **options)


async def acancel_bulk(operation: BulkOperation | uuid.UUID | str) -> bool:
    """``cancel_bulk`` in a transaction of its own, for async code."""
    return await sync_to_async(cancel_bulk, thread_sensitive=False)(operation)
