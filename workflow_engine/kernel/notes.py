"""What a body or a check has left besides its result: artifacts and annotations."""

from __future__ import annotations

import json

from workflow_engine.definitions.results import AnnotationNote, ArtifactRef, Notes
from workflow_engine.models import StageAttempt, StageRun, WorkflowAnnotation, WorkflowArtifact, WorkflowRun
from workflow_engine.statuses import AttemptOutcome, StageStatus, WaitKind

from .events import AnnotationCreated
from .unit_of_work import UnitOfWork


def insert_notes(work: UnitOfWork, run: WorkflowRun, row: StageRun, notes: Notes, *, of_check: bool = False) -> None:
    """Store what is left: annotations of every accepted attempt, artifacts once they are the stage's for good."""
    # Before a check the body does not run again; before an answer or a time it does, and writes its files anew.
    polled = row.status == StageStatus.SUSPENDED and row.wait_kind == WaitKind.POLL
    if notes.artifacts and (row.status == StageStatus.COMPLETED or polled):
        _insert_artifacts(work, run, row, notes.artifacts, replace=of_check or row.attempt > 1)
    if notes.annotations:
        _insert_annotations(work, run, row, notes.annotations)


def _insert_artifacts(
    work: UnitOfWork, run: WorkflowRun, row: StageRun, artifacts: tuple[ArtifactRef, ...], *, replace: bool
) -> None:
    rows = WorkflowArtifact.objects.using(work.ports.using)
    if replace:
        # The check may have written a file of the same name as the body.
        rows.filter(stage_run=row.pk, name__in=[item.name for item in artifacts]).delete()
    rows.bulk_create(
        WorkflowArtifact(
            run_id=run.pk,
            stage_run_id=row.pk,
            stage=row.stage,
            name=item.name,
            content_type=item.content_type,
            size=item.size,
            sha256=item.sha256,
            key=item.key,
            created_at=work.now,
        )
        for item in artifacts
    )


def _insert_annotations(
    work: UnitOfWork, run: WorkflowRun, row: StageRun, annotations: tuple[AnnotationNote, ...]
) -> None:
    facts = _new_facts(work, run, annotations)
    if row.attempt > 1:
        said = _said_before_waiting(work, row)
        facts = [item for item in facts if (item.key, _text(item.value)) not in said]
    WorkflowAnnotation.objects.using(work.ports.using).bulk_create(
        WorkflowAnnotation(
            run_id=run.pk,
            stage_run_id=row.pk,
            stage=row.stage,
            generation=row.generation,
            attempt=row.attempt,
            key=item.key,
            value=item.value,
            actor=item.actor,
            idempotency_key=item.idempotency_key,
            created_at=work.now,
        )
        for item in facts
    )
    for item in facts:
        if item.emit_event:
            actor = item.actor or None
            work.emit(run, AnnotationCreated(key=item.key, value=item.value, stage_id=row.stage, actor=actor))


def _said_before_waiting(work: UnitOfWork, row: StageRun) -> set[tuple[str, str]]:
    """Return the facts of attempts that ended by waiting: the body runs from its top again, and says them again."""
    waited = StageAttempt.objects.using(work.ports.using).filter(
        stage_run=row.pk, outcome=AttemptOutcome.SUSPENDED, token__lt=row.token
    )
    attempts = list(waited.values_list("attempt", flat=True))
    if not attempts:
        return set()
    rows = WorkflowAnnotation.objects.using(work.ports.using).filter(
        run=row.run_id, stage_run=row.pk, attempt__in=attempts
    )
    return {(key, _text(value)) for key, value in rows.values_list("key", "value")}


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _new_facts(work: UnitOfWork, run: WorkflowRun, annotations: tuple[AnnotationNote, ...]) -> list[AnnotationNote]:
    """Leave out facts whose idempotency key was used before, for this run and key; the run's lock is held."""
    keyed = {item.idempotency_key for item in annotations if item.idempotency_key is not None}
    seen: set[tuple[str, str | None]] = set()
    if keyed:
        rows = WorkflowAnnotation.objects.using(work.ports.using).filter(run=run, idempotency_key__in=keyed)
        seen = set(rows.values_list("key", "idempotency_key"))
    facts = []
    for item in annotations:
        identity = (item.key, item.idempotency_key)
        if item.idempotency_key is None or identity not in seen:
            facts.append(item)
        seen.add(identity)
    return facts
