"""Deleting blobs that no row refers to: an attempt put them there and died, or lost its stage, before it committed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import Error
from django.db.models import F, QuerySet

from workflow_engine.models import RunData, StageMemo, StageRun, WorkflowArtifact, WorkflowRun
from workflow_engine.statuses import FINISHED_RUN

from .idempotency import claim_key
from .pages import Listed, Page, Pruning

ROOT = "runs"
# A run is there some time after its input: a transaction of the caller, or a database that is away, is in between.
YOUNGEST = timedelta(hours=1)
# A storage that refuses so many folders in a row is away.
MOST_ERRORS = 3
# Values of stages' ``ctx.storage`` have no rows.
_OF_A_STAGE = re.compile(r"/\d+\.storage/")


def prune_blobs(pruning: Pruning) -> Page:
    """Delete the blobs of runs that are not there, and of those that have ended what no row refers to.

    Runs that are open, and those that have ended or were made less than ``older_than`` ago, are left alone.
    """
    listed = pruning.after
    if not isinstance(listed, Listed):
        if pruning.once and not _is_first(pruning):
            return Page(0)
        try:
            listed = Listed(_folders(pruning))
        except Exception as error:  # whatever the storage raises
            return Page(0, kept=1, refusal=f"the storage cannot be listed: {type(error).__name__}: {error}"[:500])
    ids = listed.page(pruning.most)
    deleted, kept, errors, refusal = 0, 0, 0, ""
    for run_id, run_is_there in _to_look_at(pruning, ids):
        try:
            deleted += _delete_strays(pruning, run_id, run_is_there)
            errors = 0
        except Error:
            raise
        except Exception as error:  # whatever the storage raises
            kept, errors = kept + 1, errors + 1
            refusal = refusal or f"{ROOT}/{run_id}: {type(error).__name__}: {error}"[:500]
            if errors == MOST_ERRORS:
                return Page(deleted, None, kept, refusal)
    return Page(deleted, listed.after(len(ids)), kept, refusal)


def _is_first(pruning: Pruning) -> bool:
    """Whether nobody else has begun with this pass."""
    taken = pruning.transact(
        lambda work: claim_key(
            work,
            command_type="data.prune",
            scope="blobs",
            key=pruning.once,
            request_hash="",
            result={},
            run_id=None,
        )
    )
    return taken is None


def _folders(pruning: Pruning) -> bytes:
    """Return the ids of runs that have a folder, in order; what is no such folder is not ours."""
    found = []
    for name in pruning.ports.blobs.folders(ROOT):
        try:
            run_id = uuid.UUID(name)
        except ValueError:
            continue
        if str(run_id) == name:
            found.append(run_id.bytes)
    return b"".join(sorted(found))


def _to_look_at(pruning: Pruning, ids: list[uuid.UUID]) -> Iterator[tuple[uuid.UUID, bool]]:
    """Yield those that may have strays, and whether their runs are there."""
    limit, using = pruning.limit, pruning.ports.using
    there = set(WorkflowRun.objects.using(using).filter(pk__in=ids).values_list("pk", flat=True))
    ended = set(_ended(pruning, limit).filter(pk__in=ids).values_list("pk", flat=True))
    for run_id in ids:
        if run_id in ended or (run_id not in there and _made_at(run_id) < limit):
            yield run_id, run_id in there


def _ended(pruning: Pruning, limit: datetime) -> QuerySet[WorkflowRun]:
    rows = WorkflowRun.objects.using(pruning.ports.using)
    return rows.filter(status__in=FINISHED_RUN, finished_at__lt=limit)


def _made_at(run_id: uuid.UUID) -> datetime:
    """Return the time that is in an id of ours; of one that is not, no time is long ago."""
    if run_id.version != 7:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp((run_id.int >> 80) / 1000, UTC)


def _delete_strays(pruning: Pruning, run_id: uuid.UUID, run_is_there: bool) -> int:
    """Return how many there were."""
    blobs, folder = pruning.ports.blobs, f"{ROOT}/{run_id}"
    if not run_is_there and not pruning.dry_run:
        return blobs.delete_folder(folder)
    found = blobs.list(f"{folder}/")
    if run_is_there:
        found = [key for key in found if not _OF_A_STAGE.search(key)]
        # In this order: whatever was stored by now is committed by now, or never, if the run has not gone on meanwhile.
        if not found or not _ended(pruning, pruning.limit).filter(pk=run_id).exists():
            return 0
        known = _referred_to(run_id, pruning.ports.using)
        found = [key for key in found if key not in known]
    for key in () if pruning.dry_run else found:
        blobs.delete(key)
    return len(found)


def _referred_to(run_id: uuid.UUID, using: str) -> set[str]:
    """Return the keys of all blobs that rows of a run refer to."""
    known = set(WorkflowArtifact.objects.using(using).filter(run=run_id).values_list("key", flat=True))
    for model, columns in ((RunData, ("input",)), (StageRun, ("item", "output", "state")), (StageMemo, ("value",))):
        rows = model._default_manager.using(using).filter(run=run_id)
        for column in columns:
            large = rows.filter(**{f"{column}__has_key": "blob"}).order_by()
            known.update(large.annotate(blob_key=F(f"{column}__blob")).values_list("blob_key", flat=True))
    return known
