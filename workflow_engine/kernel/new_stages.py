"""Stage runs that are about to be inserted: plain rows, since a model instance costs more than the insert."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any

from workflow_engine.ids import uuid7
from workflow_engine.models import WorkflowRun
from workflow_engine.models.stage_runs import NOT_AN_ITEM
from workflow_engine.statuses import StageStatus


@dataclass(slots=True, eq=False)
class NewStage:
    """The columns of ``StageRun`` that a new row sets; the others are NULL."""

    run_id: uuid.UUID
    stage: str
    group_number: int
    stage_number: int
    generation: int
    queue: str
    priority: int
    # None: the statement that inserts the row knows them.
    due_at: datetime | None
    rank_at: datetime | None
    config: Mapping[str, Any]
    id: uuid.UUID = field(default_factory=uuid7)
    map_index: int = NOT_AN_ITEM
    status: str = StageStatus.PENDING
    attempt: int = 0
    token: int = 0
    worker: uuid.UUID | None = None
    alone: bool = False
    suspect: bool = False
    failures: int = 0
    crashes: int = 0
    started_at: datetime | None = None
    conditional: bool = False
    # The envelope of the item, of a stage that is mapped.
    item: dict[str, Any] | None = None

    @property
    def pk(self) -> uuid.UUID:
        return self.id

    @property
    def item_index(self) -> int | None:
        return None if self.map_index == NOT_AN_ITEM else self.map_index

    def start(self, *, worker: uuid.UUID, at: datetime | None, alone: bool) -> None:
        """Let the row be born RUNNING, as the first attempt of ``worker``."""
        self.status, self.token, self.attempt = StageStatus.RUNNING, 1, 1
        self.worker, self.started_at, self.alone = worker, at, alone

    def columns(self) -> dict[str, Any]:
        return dict(zip(_NAMES, _values(self), strict=True))


_NAMES = tuple(NewStage.__dataclass_fields__)
_values = attrgetter(*_NAMES)


def new_stages(run: WorkflowRun, number: int, now: datetime | None) -> list[NewStage]:
    """Return the rows of a group of the run's plan, PENDING and due."""
    groups = run.plan["groups"]
    before = sum(len(group["stages"]) for group in groups[: number - 1])
    stages = groups[number - 1]["stages"] if 0 < number <= len(groups) else ()
    return [
        NewStage(
            run_id=run.pk,
            stage=item["id"],
            group_number=number,
            stage_number=before + place,
            generation=run.generation,
            queue=item["queue"],
            priority=run.priority,
            due_at=now,
            # The run's own place: runs that began earlier end earlier.
            rank_at=now and run.rank_at,
            config=run.data.config_of(item["id"]),
            conditional="when" in item,
        )
        for place, item in enumerate(stages, start=1)
    ]
