"""``run.annotate``: facts about a run, from outside of its stages."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow_engine.definitions.annotations import Annotations, read_annotations
from workflow_engine.errors import FieldError, InvalidInput, InvalidPayload, RunNotFound, shown
from workflow_engine.ids import uuid7
from workflow_engine.kernel.events import AnnotationCreated
from workflow_engine.kernel.payloads import check_column
from workflow_engine.kernel.ports import Ports
from workflow_engine.kernel.unit_of_work import UnitOfWork, transact
from workflow_engine.models import WorkflowAnnotation

from .base import Command, handles

MAX_KEY_LENGTH = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateResult:
    # Facts that were new; one whose idempotency key was used before is not stored again.
    stored: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotate(Command[AnnotateResult]):
    """Record facts about a run in any status; None values are left out.

    Args:
        values: by text or ``AnnotationKey``, which refuses values of another type.
        idempotency_key: a fact with the same run, key and idempotency key is stored once.
        emit_event: also write ``annotation.created`` for each new fact.

    Raises:
        RunNotFound, InvalidInput: nothing was written.
    """

    type = "run.annotate"
    run_id: uuid.UUID
    values: Annotations
    actor: str = ""
    idempotency_key: str | None = None
    emit_event: bool = False


@handles(Annotate)
def annotate(command: Annotate, ports: Ports, causation_id: uuid.UUID) -> AnnotateResult:
    if not isinstance(command.values, Mapping):
        problem = FieldError("values", f"must map keys to values, got {type(command.values).__name__}")
        raise InvalidInput("an annotation", [problem])
    values, problems = read_annotations(command.values)
    if problems:
        raise InvalidInput("an annotation", problems)
    for key, value in values.items():
        check_annotation(key, value, command.actor, command.idempotency_key)
    # Chosen before the transaction, so that a try whose COMMIT was not answered can be recognised.
    ids = {key: uuid7() for key, value in values.items() if value is not None}
    stored = transact(ports, causation_id, lambda work: _annotate(work, command, values, ids))
    if stored is None:
        raise RunNotFound(command.run_id)
    return AnnotateResult(stored=stored)


def check_annotation(key: Any, value: Any, actor: str = "", idempotency_key: str | None = None) -> None:
    """Raises ``InvalidInput`` for a fact that cannot be stored."""
    for name, text in (("key", key), ("idempotency_key", "-" if idempotency_key is None else idempotency_key)):
        if not isinstance(text, str) or not 0 < len(text) <= MAX_KEY_LENGTH:
            problem = FieldError(name, f"must be text of 1 to {MAX_KEY_LENGTH} characters, got {shown(text)}"[:300])
            raise InvalidInput("an annotation", [problem])
    if not isinstance(actor, str):
        raise InvalidInput("an annotation", [FieldError("actor", f"must be text, got {shown(actor)}")])
    try:
        check_column({key: value, "actor": actor, "idempotency_key": idempotency_key})
    except InvalidPayload as error:
        raise InvalidInput("an annotation", [FieldError(error.path, error.problem)]) from error


def _annotate(
    work: UnitOfWork, command: Annotate, given: Mapping[str, Any], ids: Mapping[str, uuid.UUID]
) -> int | None:
    using = work.ports.using
    run = work.lock_run(command.run_id)
    if run is None:
        return None
    values = {key: given[key] for key in ids}
    if work.repeated and (mine := WorkflowAnnotation.objects.using(using).filter(pk__in=ids.values()).count()):
        return mine
    if command.idempotency_key is not None:
        known = WorkflowAnnotation.objects.using(using).filter(
            run=run, key__in=list(values), idempotency_key=command.idempotency_key
        )
        for key in known.values_list("key", flat=True):
            del values[key]
    WorkflowAnnotation.objects.using(using).bulk_create(
        WorkflowAnnotation(
            pk=ids[key],
            run_id=run.pk,
            generation=run.generation,
            key=key,
            value=value,
            actor=command.actor[:150],
            idempotency_key=command.idempotency_key,
            created_at=work.now,
        )
        for key, value in values.items()
    )
    if command.emit_event:
        for key, value in values.items():
            work.emit(run, AnnotationCreated(key=key, value=value, actor=command.actor or None))
    return len(values)
