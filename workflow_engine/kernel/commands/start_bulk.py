"""``bulk.start``: a change of many runs exists from here on, with the set of its runs; orchestrators carry it out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import QuerySet
from pydantic_core import PydanticSerializationError, to_jsonable_python

from workflow_engine.definitions.stages import DEFAULT_QUEUE, MAX_ID_LENGTH
from workflow_engine.errors import FieldError, InvalidInput, InvalidPayload, as_text, shown
from workflow_engine.ids import uuid7
from workflow_engine.kernel import points
from workflow_engine.kernel.idempotency import check_key, claim_key, hash_of
from workflow_engine.kernel.payloads import check_column, scrub
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import BulkOperation, WorkflowRun
from workflow_engine.models.bulk import count_of, snapshot
from workflow_engine.statuses import BulkKind, BulkStatus

from .base import Command, handles

CHUNK_SIZE = 2_000
LONGEST_REASON = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class StartBulkResult:
    operation_id: uuid.UUID
    # How many runs there are to change. None to change: it is COMPLETED already.
    total: int
    # True: an earlier command with this idempotency key made it.
    replayed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StartBulk(Command[StartBulkResult]):
    """Let the orchestrators cancel, pause, resume or rerun many runs, one after the other, each for itself.

    Args:
        kind: a ``BulkKind``.
        runs: a queryset of ``WorkflowRun``, or rows and ids in any iterable; which they are is decided now.
        stage_id, config: of a rerun, as of ``RerunFrom``. What does not fit a run is found when its turn comes.
        selection: how the runs were chosen, as JSON: with another one the same key is a conflict.
        idempotency_key: the same key again gives the same operation, on the runs of the first time.

    Raises:
        InvalidInput: nothing was written; the argument is named.
        IdempotencyConflict, IdempotencyInProgress: see ``kernel.idempotency``.
    """

    type = "bulk.start"
    kind: str
    runs: Any
    reason: str = ""
    stage_id: str | None = None
    config: Mapping[str, Any] | None = None
    actor: str = ""
    selection: Any = None
    idempotency_key: str | None = None
    idempotency_scope: str = ""


@handles(StartBulk)
def start_bulk(command: StartBulk, ports: Ports, causation_id: uuid.UUID) -> StartBulkResult:
    if command.idempotency_key is not None:
        check_key(command.idempotency_key, "a bulk operation")
    kind, arguments = _read_arguments(command)
    runs = _read_runs(command.runs, ports)
    operation = BulkOperation(id=uuid7(), kind=kind, arguments=arguments, actor=scrub(command.actor)[:150])
    return transact(ports, causation_id, lambda work: _start_once(work, command, operation, runs))


def _start_once(work: UnitOfWork, command: StartBulk, operation: BulkOperation, runs: Any) -> StartBulkResult:
    if command.idempotency_key is None:
        return _start(work, operation, runs)
    stored = claim_key(
        work,
        command_type=command.type,
        scope=command.idempotency_scope,
        key=command.idempotency_key,
        request_hash=hash_of(
            {"kind": operation.kind, "arguments": operation.arguments, "selection": command.selection}
        ),
        result={"operation_id": str(operation.pk)},
        run_id=None,
    )
    if stored is None:
        return _start(work, operation, runs)
    found = uuid.UUID(stored["operation_id"])
    return StartBulkResult(operation_id=found, total=count_of(found, work.ports.using), replayed=found != operation.pk)


def _start(work: UnitOfWork, operation: BulkOperation, runs: Any) -> StartBulkResult:
    using = work.ports.using
    rows = BulkOperation.objects.using(using)
    if work.repeated and rows.filter(pk=operation.pk).exists():
        # An earlier try was committed although its answer was lost.
        return StartBulkResult(operation_id=operation.pk, total=count_of(operation.pk, using))
    operation.created_at = work.now
    rows.bulk_create([operation])
    for ids in _chunks(runs):
        snapshot(operation.pk, ids, using)
    total = count_of(operation.pk, using)
    rows.filter(pk=operation.pk).update(total=total)
    if not total:
        rows.filter(pk=operation.pk).end(BulkStatus.COMPLETED, work.now)
    points.hit(points.BULK_START_IN_TX)
    if total:
        work.ring_queue(_queue(work.ports))
    return StartBulkResult(operation_id=operation.pk, total=total)


def _queue(ports: Ports) -> str:
    """Return a queue to which some worker listens, most likely: orchestrators have none of their own."""
    queues = {stage.queue for workflow in ports.registry.registered_workflows() for stage in workflow}
    return DEFAULT_QUEUE if DEFAULT_QUEUE in queues or not queues else min(queues)


def _chunks(runs: QuerySet[Any] | list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    ids: Iterator[uuid.UUID]
    ids = iter(runs) if isinstance(runs, list) else runs.iterator(chunk_size=CHUNK_SIZE)
    while chunk := list(islice(ids, CHUNK_SIZE)):
        yield chunk


def _read_arguments(command: StartBulk) -> tuple[BulkKind, dict[str, Any]]:
    if command.kind not in BulkKind.values:
        raise _refusal("kind", f"must be one of {', '.join(BulkKind.values)}, got {shown(command.kind)}")
    kind = BulkKind(command.kind)
    if kind != BulkKind.RERUN:
        if not isinstance(command.reason, str):
            raise _refusal("reason", f"must be text, got {shown(command.reason)}")
        return kind, {"reason": scrub(as_text(command.reason))[:LONGEST_REASON]}
    stage_id, config = command.stage_id, command.config
    if not isinstance(stage_id, str) or not 0 < len(stage_id) <= MAX_ID_LENGTH:
        raise _refusal("stage", f"must be a stage or its id, got {shown(stage_id)}")
    if config is not None and not isinstance(config, Mapping):
        raise _refusal("config", f"must map stage ids to config, got {type(config).__name__}")
    try:
        stored = {"stage_id": stage_id, "config": to_jsonable_python(config)}
        check_column(stored)
    except PydanticSerializationError as error:
        raise _refusal("config", f"cannot be written as JSON ({error})") from error
    except InvalidPayload as error:
        raise _refusal(error.path.replace("stage_id", "stage"), error.problem) from error
    return kind, stored


def _read_runs(runs: Any, ports: Ports) -> QuerySet[Any] | list[uuid.UUID]:
    """Return what gives the ids, again and again if need be."""
    if isinstance(runs, QuerySet):
        if not issubclass(runs.model, WorkflowRun):
            raise _refusal("runs", f"must be a queryset of WorkflowRun, got one of {runs.model.__name__}")
        return runs.using(ports.using).values_list("pk", flat=True)
    if isinstance(runs, str | bytes | Mapping | WorkflowRun) or not isinstance(runs, Iterable):
        raise _refusal(
            "runs", f"must be a queryset of WorkflowRun, or a list of rows or ids, got {type(runs).__name__}"
        )
    return [_id_of(run, place) for place, run in enumerate(runs)]


def _id_of(run: Any, place: int) -> uuid.UUID:
    if isinstance(run, WorkflowRun):
        return run.pk
    try:
        return run if isinstance(run, uuid.UUID) else uuid.UUID(run)
    except (ValueError, AttributeError, TypeError):
        raise _refusal(f"runs.{place}", f"must be a run or its id, got {shown(run)}") from None


def _refusal(path: str, message: str) -> InvalidInput:
    return InvalidInput("a bulk operation", [FieldError(path, message[:300])])
