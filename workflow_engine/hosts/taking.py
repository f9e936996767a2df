"""What to take next: due stages and pending runs, the earlier in rank first."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from django.db import Error
from django.db.models import Exists, Subquery

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import ClaimPendingRuns, StartStages
from workflow_engine.kernel.started import StartedStage
from workflow_engine.models import StageRun, WorkerHeartbeat, WorkflowRun

logger = logging.getLogger(__name__)
# A suspect that is due for this long makes a busy worker stop taking work until it is idle and can run it alone.
SUSPECT_PATIENCE_SECONDS = 2.0


class Taker:
    """Asks one cheap statement whether there is anything, then takes as much as there are free slots."""

    def __init__(self, kernel: Kernel, run_id: uuid.UUID | None, worker_id: uuid.UUID) -> None:
        self._kernel, self._run_id, self._worker_id = kernel, run_id, worker_id
        self._alone: uuid.UUID | None = None
        self._suspect_since: float | None = None

    @property
    def makes_room(self) -> bool:
        """A suspect has waited long enough: this process takes nothing else until it runs it, alone."""
        return self._suspect_since is not None and time.monotonic() - self._suspect_since > SUSPECT_PATIENCE_SECONDS

    @property
    def runs_alone(self) -> bool:
        return self._alone is not None

    def take(self, starter: Starter, running: int) -> list[StartedStage]:
        """Return the attempts started for this worker; an empty list if there is nothing to do."""
        if running == 0:
            self._alone = None
        if self._alone is not None:
            return []
        stage_rank, run_rank, suspect = self._look(starter)
        made_room = self.makes_room
        self._note_suspect(bool(suspect), running)
        if running and self.makes_room:
            return []
        taken: list[StartedStage] = []
        if suspect and not running:
            taken = self._take_stages(starter, idle=True, suspects_only=made_room)
            if len(taken) == 1 and taken[0].alone and starter.slots > 1:
                self._alone = taken[0].stage_run_id
                return taken
        return taken + self._take_rest(starter, len(taken), stage_rank, run_rank)

    def _take_rest(self, starter: Starter, count: int, stage_rank: Any, run_rank: Any) -> list[StartedStage]:
        taken: list[StartedStage] = []
        runs_first = run_rank is not None and (stage_rank is None or run_rank < stage_rank)
        for claims in (True, False) if runs_first else (False, True):
            left = starter.slots - count - len(taken)
            if left <= 0:
                break
            fewer = Starter(starter.worker_id, left, starter.queues, starter.alone)
            try:
                if claims and run_rank is not None:
                    command = ClaimPendingRuns(max_claims=left, run_id=self._run_id, starter=fewer)
                    taken += self._kernel.dispatch(command).started
                elif not claims and stage_rank is not None:
                    taken += self._take_stages(fewer, idle=False)
            except (WorkflowEngineError, Error) as error:
                if not taken and not count:
                    raise
                # What was started runs here; nobody else would know.
                logger.warning("taking ended early started=%s error=%s", count + len(taken), error)
                break
        return taken

    def _take_stages(self, starter: Starter, *, idle: bool, suspects_only: bool = False) -> list[StartedStage]:
        command = StartStages(starter=starter, idle=idle, suspects_only=suspects_only, run_id=self._run_id)
        return list(self._kernel.dispatch(command).started)

    def _note_suspect(self, there: bool, running: int) -> None:
        if not there or not running:
            self._suspect_since = None
        elif self._suspect_since is None:
            self._suspect_since = time.monotonic()

    def _look(self, starter: Starter) -> tuple[Any, Any, Any]:
        """Return (rank of the first due stage, rank of the first pending run, is a suspect due); one statement."""
        ports = self._kernel.ports
        now, known = ports.clock.db_now(), ports.known_workflows()
        queues = None if starter.queues is None else list(starter.queues)
        stages = StageRun.objects.using(ports.using).startable(now, queues, known)
        runs = WorkflowRun.objects.using(ports.using).claimable(now, known)
        if self._run_id is not None:
            stages, runs = stages.filter(run=self._run_id), runs.filter(pk=self._run_id)
        found = (
            WorkerHeartbeat.objects.using(ports.using)
            .filter(pk=self._worker_id)
            .values_list(
                Subquery(stages.filter(suspect=False).values("rank_at")[:1]),
                Subquery(runs.values("rank_at")[:1]),
                Exists(stages.filter(suspect=True)),
            )
            .first()
        )
        # Our own row is gone (pruned, or restored from a backup): look at everything; the next beat writes it anew.
        return found or (ports.clock.now(), ports.clock.now(), False)
