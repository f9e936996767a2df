"""Deciding ``when=``: a stage with a condition that does not hold is skipped instead of started."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import groupby
from typing import Any

from workflow_engine.definitions.conditions import condition_holds, condition_stages, condition_text
from workflow_engine.errors import BlobCorrupt, BlobNotFound
from workflow_engine.models import RunData, StageRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import DONE_STAGE, RunStatus

from . import points
from .advance import settle, stage_event
from .events import StageFailed, StageSkipped
from .ports import Ports
from .started import group_of
from .unit_of_work import UnitOfWork, transact

logger = logging.getLogger(__name__)
Error = dict[str, Any]


def decide(ports: Ports, rows: Sequence[StageRun], causation_id: uuid.UUID) -> list[StageRun]:
    """Skip those of ``rows`` whose condition does not hold; return the others, which may start.

    Outputs are read outside of any transaction, since large ones lie in the blob store.
    """
    undecided = [row for row in rows if row.conditional and row.attempt == 0]
    if not undecided:
        return list(rows)
    wrong: dict[uuid.UUID, Error | None] = {}
    for run_id, group in groupby(sorted(undecided, key=lambda row: row.run_id), key=lambda row: row.run_id):
        mine = list(group)
        try:
            found = _decide_run(ports, run_id, mine)
            if found:
                transact(ports, causation_id, lambda work: _skip(work, run_id, mine, found))  # noqa: B023
        except Exception:
            # The database or the blob store: nobody has decided, so nothing of this run starts here.
            logger.exception("condition not decided run=%s", run_id)
            found = {row.pk: None for row in mine}
        wrong |= found
    return [row for row in rows if row.pk not in wrong]


def _decide_run(ports: Ports, run_id: uuid.UUID, rows: Sequence[StageRun]) -> dict[uuid.UUID, Error | None]:
    """Return the stages that do not start: with None those to skip, with an error those to fail."""
    plan = RunData.objects.using(ports.using).values_list("plan", flat=True).get(pk=run_id)
    conditions = {row.pk: _condition(plan, row) for row in rows}
    wanted = frozenset().union(*(condition_stages(one) for one in conditions.values() if one))
    outputs = _outputs(ports, run_id, wanted)
    found: dict[uuid.UUID, Error | None] = {}
    for pk, condition in conditions.items():
        try:
            if condition is not None and not condition_holds(condition, outputs):
                found[pk] = None
        except TypeError as error:
            found[pk] = {"code": "CONDITION_FAILED", "class": "TypeError", "message": str(error)[:2000]}
    return found


def _condition(plan: Mapping[str, Any], row: StageRun) -> Mapping[str, Any] | None:
    return next((item.get("when") for item in group_of(plan, row.group_number) if item["id"] == row.stage), None)


def _outputs(ports: Ports, run_id: uuid.UUID, stage_ids: frozenset[str]) -> dict[str, Any]:
    rows = StageRun.objects.using(ports.using).current().filter(run=run_id, stage__in=stage_ids, status__in=DONE_STAGE)
    found = {}
    for stage_id, envelope in rows.values_list("stage", "output"):
        try:
            found[stage_id] = Envelope(envelope).open(ports.blobs)
        except (BlobNotFound, BlobCorrupt) as error:
            raise LookupError(f"the output of {stage_id!r} cannot be read: {error}") from error
    return found


def _skip(
    work: UnitOfWork, run_id: uuid.UUID, candidates: Sequence[StageRun], found: Mapping[uuid.UUID, Error | None]
) -> None:
    # Never waiting: whoever holds the run, the stages are due a moment later too.
    run = work.lock_run(run_id, skip_locked=True)
    if run is None or run.status != RunStatus.RUNNING or run.paused_at is not None:
        return
    groups = set()
    for candidate in candidates:
        # A copy: a try that is rolled back must not have changed what the next one begins with.
        row, error = copy(candidate), found.get(candidate.pk)
        if row.pk not in found:
            continue
        if error is None and row.skip(at=work.now):
            condition = _condition(run.plan, row)
            work.emit(run, StageSkipped(**stage_event(row), when=condition_text(condition) if condition else ""))
            groups.add(row.group_number)
        elif error is not None and row.refuse(at=work.now, error=error):
            work.emit(run, StageFailed(**stage_event(row), error=error))
            groups.add(row.group_number)
    for number in groups:
        settle(work, run, number)
    points.hit(points.SKIP_IN_TX)
