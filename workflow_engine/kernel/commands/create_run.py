"""``run.create``: a run exists from here on, exactly if the transaction commits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connections
from pydantic_core import to_jsonable_python

from workflow_engine.definitions import Workflow
from workflow_engine.definitions.annotations import Annotations, read_annotations
from workflow_engine.definitions.types import ANYTHING
from workflow_engine.errors import FieldError, InvalidInput, InvalidPayload, shown
from workflow_engine.ids import uuid7
from workflow_engine.kernel import points
from workflow_engine.kernel.events import RunCreated
from workflow_engine.kernel.idempotency import MAX_KEY_LENGTH, claim_key, hash_of
from workflow_engine.kernel.limiting import limit_key_of, wait_for_place
from workflow_engine.kernel.payloads import ValueMismatch, check_column, pack, scrub, write
from workflow_engine.kernel.ports import Ports, Registry
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import OutboxEvent, RunData, WorkflowAnnotation, WorkflowRun
from workflow_engine.models.base import rank
from workflow_engine.models.rows import Row
from workflow_engine.models.runs import DEFAULT_PRIORITY
from workflow_engine.statuses import RunStatus

from .annotate import MAX_KEY_LENGTH as MAX_ANNOTATION_KEY_LENGTH
from .base import Command, handles


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateRunResult:
    run_id: uuid.UUID
    status: str
    # False: an earlier command with this idempotency key made the run.
    created: bool
    # The new run as it was written; None: read it.
    row: WorkflowRun | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateRun(Command[CreateRunResult]):
    """Create a run.

    Args:
        input: what the workflow's input type makes of it is stored, not the raw value.
        config: stage id -> fields, merged over the defaults field by field.
        priority: 0 to 10, higher first.
        subject: (content type id, primary key as text) of the row that the run is about.
        run_at: not before this time (aware).

    Raises:
        WorkflowNotFound, InvalidInput, InvalidConfig, InvalidPayload: nothing was written.
        IdempotencyConflict, IdempotencyInProgress: see ``kernel.idempotency``.
    """

    type = "run.create"
    workflow_id: str
    input: Any = None
    config: Mapping[str, Any] | None = None
    priority: int = DEFAULT_PRIORITY
    metadata: Mapping[str, Any] = field(default_factory=dict)
    # By text or ``AnnotationKey``.
    annotations: Annotations = field(default_factory=dict)
    subject: tuple[int, str] | None = None
    run_at: datetime | None = None
    actor: str = ""
    idempotency_key: str | None = None
    idempotency_scope: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command once everything about it is checked; no transaction is needed for that."""

    run_id: uuid.UUID
    workflow: Workflow[Any, Any]
    input: dict[str, Any]
    config: dict[str, Any]
    request_hash: str
    # Of the workflow's limit; None: nothing limits this run.
    limit_key: str | None


@handles(CreateRun)
def create_run(command: CreateRun, ports: Ports, causation_id: uuid.UUID) -> CreateRunResult:
    command, prepared = prepare(command, ports)

    def step(work: UnitOfWork) -> CreateRunResult:
        if command.idempotency_key is not None:
            result = {"run_id": str(prepared.run_id)}
            stored = claim_key(
                work,
                command_type=command.type,
                scope=command.idempotency_scope,
                key=command.idempotency_key,
                request_hash=prepared.request_hash,
                result=result,
                run_id=prepared.run_id,
            )
            if stored is not None:
                return _replayed(uuid.UUID(stored["run_id"]), prepared.run_id, ports)
        # An earlier try of this command may have been committed although its answer was lost.
        there = work.repeated and _exists(ports, prepared.run_id)
        written = None if there else insert(work, command, prepared, work.time_of_new_rows())
        points.hit(points.CREATE_IN_TX)
        work.save()
        row = _row_of(ports.using, *written, work.written_at) if written else None
        return CreateRunResult(run_id=prepared.run_id, status="PENDING", created=True, row=row)

    # Without a key all that is written goes by one statement.
    try:
        result = transact(ports, causation_id, step, plain=command.idempotency_key is None)
    except IntegrityError:
        # An earlier try, whose connection was lost, was still under way in the server and has ended only now.
        if connections[ports.using].in_atomic_block or not _exists(ports, prepared.run_id):
            raise
        result = CreateRunResult(run_id=prepared.run_id, status="PENDING", created=True)
    points.hit(points.CREATE_AFTER)
    return result


def _exists(ports: Ports, run_id: uuid.UUID) -> bool:
    return WorkflowRun.objects.using(ports.using).filter(pk=run_id).exists()


def _replayed(run_id: uuid.UUID, mine: uuid.UUID, ports: Ports) -> CreateRunResult:
    status = WorkflowRun.objects.using(ports.using).filter(pk=run_id).values_list("status", flat=True).first()
    # The same id: an earlier try of this very command was committed although its answer was lost.
    return CreateRunResult(run_id=run_id, status=status or "PENDING", created=run_id == mine)


def _with_plain_keys(command: CreateRun) -> tuple[CreateRun, list[FieldError]]:
    """Let every annotation stand under the name of its key, and say what is wrong with values of typed keys."""
    if not isinstance(command.annotations, Mapping):
        return command, []
    facts, problems = read_annotations(command.annotations)
    problems = [FieldError(f"annotations.{item.path}", item.message, item.code) for item in problems]
    return replace(command, annotations=facts), problems


@dataclass(frozen=True, slots=True)
class Checked:
    """A command whose content is right: what is to be stored of its input and config."""

    command: CreateRun
    workflow: Workflow[Any, Any]
    input: Any
    config: dict[str, Any]
    limit_key: str | None


def prepare(command: CreateRun, ports: Ports) -> tuple[CreateRun, Prepared]:
    """Check everything and put a large input away, before any transaction is open.

    The command comes back with its annotations under plain keys. Raises what ``CreateRun`` raises of its content.
    """
    checked = check(command, ports.registry)
    run_id = uuid7()
    envelope = pack(
        checked.input, lambda digest: f"runs/{run_id}/input/{digest}.json", ports.blobs, ports.limits, "the input"
    )
    request_hash = _request_hash(checked.command)
    prepared = Prepared(run_id, checked.workflow, envelope, checked.config, request_hash, checked.limit_key)
    return checked.command, prepared


def check(command: CreateRun, registry: Registry) -> Checked:
    """Check everything and write nothing, not even blobs. Raises what ``CreateRun`` raises of its content."""
    command, problems = _with_plain_keys(command)
    workflow = registry.get_workflow(command.workflow_id)
    _check_arguments(command, problems)
    if workflow.input.type is None:
        workflow.validate_input(command.input)
    try:
        data = write(workflow.input, command.input)
    except ValueMismatch as error:
        raise InvalidInput(f"workflow {workflow.id!r}", error.errors) from error
    config = workflow.validate_config(command.config)
    check_column(config)
    return Checked(command, workflow, data, config, limit_key_of(workflow, data))


def problem_with_time(at: Any) -> str | None:
    """Return what is wrong with a time to come; None if nothing is."""
    if not isinstance(at, datetime):
        return f"must be a datetime, got {shown(at)}"
    if at.utcoffset() is None:
        return "must have a time zone (use timezone.now() and timedeltas)"
    # Later ones cannot be told from what is held back, and all databases have these.
    return None if 1970 <= at.year <= 9000 else f"must be in the years 1970 to 9000, got {at.isoformat()}"


def _check_arguments(command: CreateRun, found: list[FieldError]) -> None:
    problems = list(found)
    if not isinstance(command.priority, int) or isinstance(command.priority, bool) or not 0 <= command.priority <= 10:
        problems.append(FieldError("priority", f"must be a whole number from 0 to 10, got {shown(command.priority)}"))
    if command.run_at is not None and (problem := problem_with_time(command.run_at)):
        problems.append(FieldError("run_at", problem))
    for name, mapping in (("metadata", command.metadata), ("annotations", command.annotations)):
        if not isinstance(mapping, Mapping):
            problems.append(FieldError(name, f"must be a mapping, got {type(mapping).__name__}"))
            continue
        try:
            check_column(dict(mapping))
        except InvalidPayload as error:
            problems.append(FieldError(f"{name}.{error.path}".rstrip("."), error.problem))
    for key in command.annotations if isinstance(command.annotations, Mapping) else ():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_ANNOTATION_KEY_LENGTH:
            problems.append(
                FieldError("annotations", f"a key must be text of 1 to {MAX_ANNOTATION_KEY_LENGTH} characters")
            )
    unique = command.idempotency_key
    if unique is not None and not (isinstance(unique, str) and 0 < len(unique) <= MAX_KEY_LENGTH):
        problems.append(FieldError("idempotency_key", f"must be text of 1 to {MAX_KEY_LENGTH} characters"))
    if problems:
        raise InvalidInput(f"a run of workflow {command.workflow_id!r}", problems)


def _request_hash(command: CreateRun) -> str:
    if command.idempotency_key is None:
        return ""
    raw = ANYTHING.dump_python(command.input, mode="json", fallback=repr)
    return hash_of(
        {
            "workflow": command.workflow_id,
            "input": raw,
            "config": to_jsonable_python(command.config, fallback=repr),
            "priority": command.priority,
            "metadata": dict(command.metadata),
            "annotations": dict(command.annotations),
            "subject": command.subject,
            "run_at": command.run_at,
        }
    )


def insert(work: UnitOfWork, command: CreateRun, prepared: Prepared, now: datetime | None) -> tuple[Row, Row]:
    """Insert a run and what belongs to it when the work is saved; ``now`` as of ``time_of_new_rows``."""
    workflow = prepared.workflow
    due_at = command.run_at or now
    run = {
        "id": prepared.run_id,
        "workflow": workflow.id,
        "version": workflow.version,
        "status": RunStatus.PENDING,
        "priority": command.priority,
        "generation": 0,
        "event_seq": 1,
        "created_at": now,
        "due_at": due_at,
        "rank_at": due_at and rank(due_at, command.priority),
        "subject_type_id": command.subject[0] if command.subject else None,
        "subject_id": command.subject[1] if command.subject else "",
    }
    data = {
        "run_id": prepared.run_id,
        "plan": workflow.plan(),
        "config": prepared.config,
        "input": prepared.input,
        "metadata": dict(command.metadata),
        "cancel_reason": "",
        "created_by": scrub(command.actor)[:150],
    }
    if prepared.limit_key is not None:
        run = wait_for_place(work, run, prepared.limit_key)
    work.insert(WorkflowRun, [run])
    work.insert(RunData, [data])
    created = RunCreated(workflow_id=workflow.id)
    work.insert(OutboxEvent, [work.event_row(prepared.run_id, workflow.id, 1, created, at=now)])
    work.insert(WorkflowAnnotation, _annotations(command, prepared.run_id, now))
    for item in workflow.groups[0].stages:
        work.ring_queue(item.queue)
    return run, data


def _annotations(command: CreateRun, run_id: uuid.UUID, now: datetime | None) -> list[Row]:
    facts = {
        "run_id": run_id,
        "stage_run_id": None,
        "stage": "",
        "generation": 0,
        "attempt": 0,
        "actor": scrub(command.actor)[:150],
        "idempotency_key": None,
        "created_at": now,
    }
    given = command.annotations.items()
    return [{"id": uuid7(), **facts, "key": key, "value": value} for key, value in given if value is not None]


def _row_of(using: str, run: Row, data: Row, written_at: datetime | None) -> WorkflowRun:
    """Return what was written as the row it is, so that nobody has to read it back."""
    due_at = run["due_at"] or written_at
    times = {"created_at": run["created_at"] or written_at, "due_at": due_at, "rank_at": rank(due_at, run["priority"])}
    row = WorkflowRun(**{**run, **times})
    row._state.db, row._state.adding = using, False
    # As JSON gives it back, and nothing that the caller may still change.
    side = RunData(**{**data, "metadata": json.loads(json.dumps(data["metadata"]))})
    side._state.db, side._state.adding = using, False
    row.keep_data(side)
    return row
