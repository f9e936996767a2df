"""Finishing in the thread of the body: what runs code of users in its transaction waits for nobody else's."""

from __future__ import annotations

import logging

from workflow_engine.definitions.results import Result
from workflow_engine.executors.held import Held
from workflow_engine.executors.recorder import Recorder
from workflow_engine.executors.tidying import tidy_connections
from workflow_engine.kernel import Kernel
from workflow_engine.kernel.advance import Starter
from workflow_engine.kernel.commands import Finished

from .alone import AloneFinisher
from .atomic import finish_with_effects, run_atomic
from .ended import Bodies, Ended, Supply, say_if_refused

logger = logging.getLogger(__name__)


class OwnFinisher:
    """Runs and finishes atomic stages, and finishes those with ``on_complete`` effects, in the calling thread."""

    def __init__(
        self, kernel: Kernel, recorder: Recorder, bodies: Bodies, supply: Supply, alone: AloneFinisher
    ) -> None:
        self._kernel, self._recorder = kernel, recorder
        self._bodies, self._supply, self._alone = bodies, supply, alone

    def finish(self, held: Held, result: Result) -> Held | None:
        """Finish an attempt that has effects; return what to run in this thread."""
        ended = Ended.now(held, result)
        # Others may wait for this thread, which may be busy for long now.
        self._bodies.spread()
        self._flush()
        return self._go_on(ended, finish_with_effects(self._kernel, ended, lambda: self._starter(held)))

    def run_atomic(self, held: Held) -> Held | None:
        """Run and finish an atomic stage; return what to run in this thread."""
        ended, finished = run_atomic(self._kernel, self._recorder, held, lambda: self._starter(held))
        # Not before: in the body's transaction its own lines would be rolled back with it.
        tidy_connections()
        self._flush()
        return self._go_on(ended, finished)

    def _go_on(self, ended: Ended, finished: Finished | None) -> Held | None:
        tidy_connections()
        held = ended.held
        if finished is None:
            self._alone.add(ended)
            return None
        say_if_refused(held.stage, finished)
        if finished.tells:
            self._supply.stage_suspended()
        followings = self._bodies.settle([held], [self._bodies.make(started, held) for started in finished.next])
        # A thread that was given up is replaced: it goes on with nothing.
        if len(followings) == 1 and not followings[0].on_loop and not held.timed_out:
            return followings[0]
        self._bodies.launch(followings)
        self._bodies.spread()
        return None

    def _starter(self, held: Held) -> Starter | None:
        return self._supply.continue_with([held])

    def _flush(self) -> None:
        try:
            self._recorder.flush()
        except Exception:
            logger.exception("log lines cannot be written")
