"""Looking after bodies that take long, twice a second."""

from __future__ import annotations

import logging
import time
import uuid

from django.db import Error

from workflow_engine.executors.held import Held, HeldStages
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.commands import ReleaseStages
from workflow_engine.models import StageRun
from workflow_engine.statuses import StageStatus

from .pool import ThreadPool
from .runner import Runner

logger = logging.getLogger(__name__)
# So long an attempt may wait for a thread that was taken on the assumption that bodies here are quick.
LONGEST_WAIT_SECONDS = 1.0
# Bodies that have run for so long are asked about, so often: one statement for all of them.
LONG_SECONDS, ASK_SECONDS = 1.0, 0.9


class Watch:
    """Fences off bodies that are over their time, tells those whose attempt was cancelled, and gives back attempts
    that wait too long for a thread."""

    def __init__(self, kernel: Kernel, worker_id: uuid.UUID, held: HeldStages, runner: Runner) -> None:
        self._kernel, self._worker_id, self._held, self._runner = kernel, worker_id, held, runner
        self._asked_at = 0.0

    def look(self, pool: ThreadPool) -> None:
        self._runner.watch_loop()
        now = time.monotonic()
        for held in self._held.all():
            # The event loop cancels by itself, and a process is killed by whoever waits for it.
            if held.on_loop or held.timed_out or self._runner.is_isolated(held):
                continue
            thread = self._runner.thread_of(held)
            if thread is not None and held.deadline is not None and now > held.deadline:
                held.timed_out = True
                pool.give_up(thread)
                self._time_out(held)
        self._give_back(now)
        self._tell_lost(now)

    def _time_out(self, held: Held) -> None:
        if held.lost.is_set():
            # Nobody waits for its result any more, but its thread may hang all the same.
            self._held.remove(held)
        else:
            held.lost.set()
            self._runner.time_out(held)

    def _tell_lost(self, now: float) -> None:
        """Tell bodies whose attempt somebody else has ended, a cancel most likely: sooner than the next beat would."""
        if now - self._asked_at < ASK_SECONDS:
            return
        # Only while their body runs: of what is being finished the database may know more than this process.
        long = [held for held in self._held.all() if now - held.began > LONG_SECONDS and self._runs(held)]
        if not long:
            return
        self._asked_at = now
        rows = StageRun.objects.using(self._kernel.ports.using)
        mine = rows.filter(worker=self._worker_id, status=StageStatus.RUNNING)
        try:
            tokens = dict(mine.values_list("pk", "token"))
        except Error:
            # The beat meets the same error and says so; time limits are kept all the same.
            logger.debug("cannot ask about bodies that take long worker=%s", self._worker_id, exc_info=True)
            return
        for held in long:
            if tokens.get(held.stage.stage_run_id) != held.stage.token and self._runs(held):
                held.lost.set()
                self._runner.tell_lost(held)

    def _runs(self, held: Held) -> bool:
        if held.lost.is_set() or held.timed_out:
            return False
        return held.on_loop or self._runner.thread_of(held) is not None

    def _give_back(self, now: float) -> None:
        late = [
            held
            for held in self._held.all()
            if not (held.begun or held.on_loop or held.lost.is_set()) and now - held.began > LONGEST_WAIT_SECONDS
        ]
        if not late:
            return
        self._runner.not_quick()
        late = [held for held in late if held.give_away()]
        tokens = {held.stage.stage_run_id: held.stage.token for held in late}
        self._kernel.dispatch(ReleaseStages(worker_id=self._worker_id, tokens=tokens, skip_locked=True))
        logger.info("stages given back that waited for a thread worker=%s count=%s", self._worker_id, len(late))
        self._held.exchange(late, ())
