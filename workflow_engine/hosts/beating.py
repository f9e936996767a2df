"""What a worker process and the database tell each other about what it holds: beats, and giving back."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from django.db import Error

from workflow_engine.errors import WorkflowEngineError
from workflow_engine.executors.held import Held, HeldStages, Lease
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import Beat, ReapStaleLeases, ReleaseStages, ReportDeadWorkers
from workflow_engine.kernel.ports import WorkerFacts

from .lane import CheckLane

logger = logging.getLogger(__name__)
# Rounds of giving back at the end: each settles what a finish under way has started meanwhile.
ROUNDS = 10


class Beating:
    """Renews the process's lease, and settles what the database and the process know of each other.

    ``lose`` is told of attempts whose token is void, ``zombies`` says how many threads hang.
    """

    def __init__(
        self,
        kernel: Kernel,
        facts: WorkerFacts,
        held: HeldStages,
        lane: CheckLane,
        lease: Lease,
        *,
        lose: Callable[[Held], None],
        zombies: Callable[[], int],
    ) -> None:
        self._kernel, self._facts, self._held, self._lane, self._lease = kernel, facts, held, lane, lease
        self._lose, self._zombies = lose, zombies
        self._unknown: dict[uuid.UUID, int] = {}

    def beat(self) -> None:
        """Renew the lease; let go of what the database says is not ours, give back what we do not know."""
        sent_at = time.monotonic()
        checking = self._lane.held.tokens()
        running = {**checking, **self._held.tokens()}
        beat = Beat(worker=self._facts, running=running, zombies=self._zombies(), checking=len(checking))
        result = self._kernel.dispatch(beat)
        was_over = self._lease.is_over
        self._lease.renewed(sent_at)
        if was_over:
            self._kernel.ports.transport.push([])
        for pk in result.lost:
            held = self._held.get(pk, running[pk])
            if held is not None:
                self._lose(held)
            self._lane.lose(pk, running[pk])
        # Twice in a row: an attempt that is just being started is not known here yet.
        known = {**self._lane.held.tokens(), **self._held.tokens()}
        forgotten = {pk: token for pk, token in result.unknown.items() if known.get(pk) != token}
        stray = {pk: token for pk, token in forgotten.items() if self._unknown.get(pk) == token}
        self._unknown = forgotten
        if stray:
            logger.warning("giving back stages that do not run here worker=%s count=%s", self._facts.id, len(stray))
            self._kernel.dispatch(ReleaseStages(worker_id=self._facts.id, tokens=stray, skip_locked=True))

    def wait_for_database(self, stopping: threading.Event) -> None:
        """Register with a first beat; a database that is away is waited for, and that is said once."""
        tries = 0
        while not stopping.is_set():
            try:
                self.beat()
                return
            except (WorkflowEngineError, Error) as error:
                tidy_connections()
                tries += 1
                if tries == 1:
                    logger.warning("waiting for the database error=%s", error)
                stopping.wait(min(0.2 * 2**tries, 5))

    def report_dead(self, workers: Sequence[uuid.UUID]) -> None:
        """Free what they held: nobody waits for the end of their leases."""
        if not workers:
            return
        try:
            if self._kernel.dispatch(ReportDeadWorkers(workers=workers)).reported:
                self._kernel.dispatch(ReapStaleLeases())
        except (WorkflowEngineError, Error) as error:
            logger.warning("dead workers not reported, their leases will end workers=%s error=%s", workers, error)
            tidy_connections()

    def give_back(self) -> None:
        """Give back everything that the database says is held here."""
        worker_id = self._facts.id
        try:
            # What the database says, not what is held: a finish under way may have started the next stage, and a take
            # that failed half-way has started some too.
            for _ in range(ROUNDS):
                for held in self._held.all():
                    self._lose(held)
                tokens = self._kernel.dispatch(Beat(worker=self._facts, running={})).unknown
                if not tokens:
                    break
                released = self._kernel.dispatch(ReleaseStages(worker_id=worker_id, tokens=tokens)).released
                logger.info("stages released unfinished worker=%s count=%s", worker_id, len(released))
        except (WorkflowEngineError, Error) as error:
            logger.warning("stages not released, their lease will end worker=%s error=%s", worker_id, error)

    def say_goodbye(self) -> None:
        try:
            self._kernel.dispatch(Beat(worker=self._facts, running={}, stopping=True))
        except (WorkflowEngineError, Error) as error:
            logger.warning("last beat failed worker=%s error=%s", self._facts.id, error)
