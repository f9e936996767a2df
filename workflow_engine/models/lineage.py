"""Who has started a run, and the runs that it has started: read in three statements, however many there are."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass

from .runs import WorkflowRun
from .stage_runs import NOT_AN_ITEM, StageRun

MOST_COUNTED = 10_000
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """The run whose stage has started a run; ``stage_id`` is empty if its row is gone."""

    run_id: uuid.UUID
    stage_id: str
    # Of the item, if the stage is mapped.
    item: int | None

    @property
    def place(self) -> str:
        """Return ``import-line #3``, or just the stage."""
        return self.stage_id if self.item is None else f"{self.stage_id} #{self.item}"


def origin_of(run: WorkflowRun) -> Origin | None:
    """Return what has started the run; None: no other run, or one that is gone. At most one statement."""
    if run.parent_run_id is None:
        return None
    if run.parent_stage_run_id is None:
        return Origin(run.parent_run_id, "", None)
    rows = StageRun.objects.using(run._state.db).filter(pk=run.parent_stage_run_id)
    stage_id, index = rows.values_list("stage", "map_index").first() or ("", NOT_AN_ITEM)
    return Origin(run.parent_run_id, stage_id, None if index == NOT_AN_ITEM else index)


@dataclass(frozen=True, slots=True)
class Children:
    """``first``: up to 20 of them, the oldest first; ``statuses`` counts up to 10,000."""

    first: tuple[WorkflowRun, ...]
    statuses: Counter[str]

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def more(self) -> int:
        """How many are not among the first."""
        return self.total - len(self.first)


def children_of(run: WorkflowRun) -> Children:
    """Return the runs that this run's stages have started, those of earlier generations too."""
    rows = WorkflowRun.objects.using(run._state.db).filter(parent_run=run.pk)
    statuses = Counter(rows.order_by().values_list("status", flat=True)[:MOST_COUNTED])
    first = rows.order_by("pk").select_related("parent_stage_run").only(*_SHOWN) if statuses else rows.none()
    return Children(tuple(first[:MOST_SHOWN]), statuses)


_SHOWN = (
    "workflow",
    "status",
    "created_at",
    "started_at",
    "finished_at",
    "paused_at",
    "parent_stage_run__stage",
    "parent_stage_run__map_index",
)
