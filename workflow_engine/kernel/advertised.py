"""What the living workers say they can execute, and what nobody may start just now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow_engine.models import Pause, WorkerHeartbeat
from workflow_engine.statuses import PauseScope

from .ports import Ports


@dataclass(frozen=True, slots=True)
class Advertised:
    """Workflow id -> its stages that some living worker has; None: whichever it may have."""

    stages: Mapping[str, frozenset[str] | None]
    # False: no worker lives, so nothing is known to be unknown.
    anybody: bool

    def has_workflow(self, workflow_id: str) -> bool:
        return not self.anybody or workflow_id in self.stages

    def is_elsewhere(self, workflow_id: str) -> bool:
        """Whether some living worker says that it has the workflow."""
        return workflow_id in self.stages

    def has_stage(self, workflow_id: str, stage_id: str) -> bool:
        stages = self.stages.get(workflow_id, frozenset())
        return not self.anybody or stages is None or stage_id in stages


def read_advertised(ports: Ports) -> Advertised:
    """Ask which definitions the living workers have; one statement."""
    alive = WorkerHeartbeat.objects.using(ports.using).alive(ports.clock.db_now())
    known: dict[str, frozenset[str] | None] = {}
    rows: list[tuple[Any, Any]] = list(alive.values_list("workflows", "stages").distinct())
    for workflows, stages in rows:
        for workflow_id in workflows:
            mine, before = stages.get(workflow_id), known.get(workflow_id, frozenset())
            # A worker of an older engine names its workflows only.
            known[workflow_id] = None if mine is None or before is None else before | frozenset(mine)
    return Advertised(known, anybody=bool(rows))


@dataclass(frozen=True, slots=True)
class Stopped:
    """Workflows and queues that are paused: their work waits because somebody wants it to."""

    workflows: frozenset[str]
    queues: frozenset[str]


def read_stopped(ports: Ports) -> Stopped:
    """Ask what is paused; one statement."""
    rows = list(Pause.objects.using(ports.using).values_list("scope", "name"))
    names = {
        scope: frozenset(name for kind, name in rows if kind == scope)
        for scope in (PauseScope.WORKFLOW, PauseScope.QUEUE)
    }
    return Stopped(names[PauseScope.WORKFLOW], names[PauseScope.QUEUE])
