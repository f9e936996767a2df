"""Deciding ``when=``: a stage with a condition that does not hold is skipped instead of started."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from workflow_engine.definitions.conditions import condition_holds, condition_stages, condition_text
from workflow_engine.errors import BlobCorrupt, BlobNotFound
from workflow_engine.models import RunData, StageRun
from workflow_engine.models.payloads import Envelope
from workflow_engine.statuses import DONE_STAGE, RunStatus

from . import points
from .advance import settle, stage_event
from .conflicts import is_away
from .events import StageFailed, StageSkipped
from .ports import Ports
from .started import group_of
from .unit_of_work import UnitOfWork, transact

logger = logging.getLogger(__name__)
Error = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decided:
    """What has become of due stages."""

    startable: list[StageRun]
    # The database or the blob store failed: nobody has decided yet.
    undecided: list[StageRun] = field(default_factory=list)
    # Runs in which something was skipped, or has failed: what follows may be due by now.
    moved: frozenset[uuid.UUID] = frozenset()


def decide(ports: Ports, rows: Sequence[StageRun], causation_id: uuid.UUID) -> Decided:
    """Skip those of ``rows`` whose condition does not hold; say which may start.

    Outputs are read outside of any transaction, since large ones lie in the blob store.
    """
    conditional = [row for row in rows if row.conditional and row.attempt == 0]
    if not conditional:
        return Decided(list(rows))
    wrong: dict[uuid.UUID, Error | None] = {}
    undecided: list[StageRun] = []
    moved: set[uuid.UUID] = set()
    for run_id, group in groupby(sorted(conditional, key=lambda row: row.run_id), key=lambda row: row.run_id):
        mine = list(group)
        try:
            found = _decide_run(ports, run_id, mine)
            if found:
                has_moved = transact(ports, causation_id, lambda work: _skip(work, run_id, mine, found))  # noqa: B023
                moved |= {run_id} if has_moved else set()
        except Exception as error:
            if is_away(error):
                raise
            logger.exception("condition not decided run=%s", run_id)
            found = {row.pk: None for row in mine}
            undecided += mine
        wrong |= found
    return Decided([row for row in rows if row.pk not in wrong], undecided, frozenset(moved))


def _decide_run(ports: Ports, run_id: uuid.UUID, rows: Sequence[StageRun]) -> dict[uuid.UUID, Error | None]:
    """Return the stages that do not start: with None those to skip, with an error those to fail."""
    plan = RunData.objects.using(ports.using).values_list("plan", flat=True).get(pk=run_id)
    conditions = {row.pk: _condition(plan, row) for row in rows}
    wanted = frozenset().union(*(condition_stages(one) for one in conditions.values() if one))
    outputs, lost = _outputs(ports, run_id, wanted)
    found: dict[uuid.UUID, Error | None] = {}
    for pk, condition in conditions.items():
        if condition is None:
            continue
        if gone := [lost[stage_id] for stage_id in sorted(condition_stages(condition)) if stage_id in lost]:
            # For good, so waiting would be for ever.
            found[pk] = gone[0]
            continue
        try:
            if not condition_holds(condition, outputs):
                found[pk] = None
        except TypeError as error:
            found[pk] = _failed(error, str(error))
    return found


def _failed(error: Exception, message: str) -> Error:
    return {"code": "CONDITION_FAILED", "class": type(error).__name__, "message": message[:2000]}


def _condition(plan: Mapping[str, Any], row: StageRun) -> Mapping[str, Any] | None:
    return next((item.get("when") for item in group_of(plan, row.group_number) if item["id"] == row.stage), None)


def _outputs(
    ports: Ports, run_id: uuid.UUID, stage_ids: frozenset[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the outputs by stage id, and the errors of those that are lost."""
    rows = StageRun.objects.using(ports.using).current().stages()
    rows = rows.filter(run=run_id, stage__in=stage_ids, status__in=DONE_STAGE)
    found, lost = {}, {}
    for stage_id, envelope in rows.values_list("stage", "output"):
        try:
            found[stage_id] = Envelope(envelope).open(ports.blobs, using=ports.using)
        except (BlobNotFound, BlobCorrupt) as error:
            lost[stage_id] = _failed(error, f"the output of {stage_id!r} cannot be read: {error}")
    return found, lost


def _skip(
    work: UnitOfWork, run_id: uuid.UUID, candidates: Sequence[StageRun], found: Mapping[uuid.UUID, Error | None]
) -> bool:
    """Skip, or fail, what is in ``found``; False: the run is held, or does not go on."""
    # Never waiting: whoever holds the run, the stages are due a moment later too.
    run = work.lock_run(run_id, skip_locked=True)
    if run is None or run.status != RunStatus.RUNNING or run.paused_at is not None:
        return False
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
    return True
