"""Work done in the calling thread, one stage after the other: for tests, and for hosts without a worker."""

from __future__ import annotations

import logging
import threading
import uuid
from dataclasses import replace

from workflow_engine.bootstrap import get_kernel
from workflow_engine.errors import StageNotFound, WorkflowNotFound
from workflow_engine.executors.held import Held
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.threads import ThreadExecutor
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import (
    CarryOutBulk,
    ClaimPendingRuns,
    DeliverNotices,
    Finished,
    FinishStages,
    Outcome,
    PollSuspendedStages,
    StartStages,
    WakeSuspendedStages,
)
from workflow_engine.kernel.effects import has_effects
from workflow_engine.kernel.started import StartedStage

from .atomic import finish_with_effects, run_atomic
from .ended import Ended
from .lane import CheckLane

logger = logging.getLogger(__name__)


class InlineHost:
    """Runs due stages in the calling thread. Nothing beats for it: only where nobody reaps leases meanwhile."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.worker_id = uuid.uuid4()
        self._recorder = Recorder(kernel.ports)
        self._executor = ThreadExecutor(kernel.ports, self._recorder)
        # The caller's own transaction may be open: its connection is left as it is.
        self._lane = CheckLane(
            kernel, self.worker_id, self._recorder, None, size=1, freed=lambda: None, tidy=lambda: None
        )

    def drain(self, run_id: uuid.UUID | None = None) -> int:
        """Run what is due (of one run) until nothing is; return how many attempts and checks were made."""
        count = 0
        while True:
            # First: what is to be cancelled need not run before.
            while delivered := self.kernel.dispatch(DeliverNotices(run_id=run_id)).delivered:
                count += delivered
            while started := self.take(run_id):
                for stage in started:
                    following: tuple[StartedStage, ...] = (stage,)
                    while following:
                        following = self.execute(following[0]).next
                        count += 1
            checked = self.look_after_suspended(run_id)
            if not checked:
                return count
            count += checked

    def look_after_suspended(self, run_id: uuid.UUID | None = None) -> int:
        """Deliver notices, end timers and overdue waits, make the checks that are due; return how many there were."""
        told = self.kernel.dispatch(DeliverNotices(run_id=run_id))
        woken = self.kernel.dispatch(WakeSuspendedStages(run_id=run_id))
        polled = self.kernel.dispatch(PollSuspendedStages(worker_id=self.worker_id, run_id=run_id))
        for check in polled.claimed:
            self._lane.run(check)
        return told.delivered + len(woken.resumed) + len(woken.failed) + len(polled.claimed)

    def take(self, run_id: uuid.UUID | None = None) -> list[StartedStage]:
        """Start one due stage; an empty list if there is none."""
        starter = replace(self._starter(), items=None)
        stages = self.kernel.dispatch(StartStages(starter=starter, idle=True, run_id=run_id)).started
        if not stages:
            stages = self.kernel.dispatch(ClaimPendingRuns(max_claims=1, run_id=run_id, starter=starter)).started
        return list(stages)

    def execute(self, started: StartedStage) -> Finished:
        """Run one started stage to the end of its attempt."""
        held = Held(started)
        if self._is_atomic(started):
            ended, finished = run_atomic(self.kernel, self._recorder, held, self._starter)
            self._recorder.flush()
        else:
            ended, finished = Ended.now(held, self._executor.run(held)), None
            self._recorder.flush()
            if has_effects(ended.result):
                finished = finish_with_effects(self.kernel, ended, self._starter)
        return finished or self._finish(ended)

    def _is_atomic(self, started: StartedStage) -> bool:
        if started.expands:
            return False
        try:
            return self.kernel.ports.registry.get_workflow(started.workflow_id).get_stage(started.stage_id).atomic
        except (WorkflowNotFound, StageNotFound):
            # The executor says so.
            return False

    def _finish(self, ended: Ended) -> Finished:
        outcome = Outcome(ended.held.stage, ended.result, ended.elapsed)
        tried = FinishStages(outcomes=(outcome,), starter=self._starter(), together=True)
        try:
            finished = self.kernel.dispatch(tried, causation_id=ended.causation_id).finished
        except Exception:
            logger.debug("finishing alone stage=%s", outcome.stage.stage_id, exc_info=True)
            finished = ()
        if not finished:
            alone = FinishStages(outcomes=(outcome,), starter=self._starter(), again=True)
            finished = self.kernel.dispatch(alone, causation_id=ended.causation_id).finished
        return finished[0]

    def _starter(self) -> Starter:
        # Items of maps are taken one after the other, so that they come in their order.
        return Starter(worker_id=self.worker_id, slots=1, alone=True, items=0)


_driving = threading.local()


def drive_due() -> None:
    """Run everything that is due; what it rings for meanwhile is done by the outermost call."""
    if getattr(_driving, "now", False):
        return
    _driving.now = True
    try:
        host = InlineHost(get_kernel())
        host.drain()
        while host.kernel.dispatch(CarryOutBulk()).done:
            host.drain()
    finally:
        _driving.now = False
