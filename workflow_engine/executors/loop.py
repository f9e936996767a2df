"""All ``async def`` bodies of a process as tasks of one event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workflow_engine.definitions.results import Result, RunCancelledError
from workflow_engine.kernel import points
from workflow_engine.kernel.ports import Ports

from .attempts import Attempt, timed_out
from .held import Held
from .recorder import Recorder
from .tidying import BlockingCalls

logger = logging.getLogger(__name__)
Done = Callable[[Held, Result], None]
BEAT_SECONDS = 0.1
# A body that swallowed its cancellation may go on for this long before others are told that it is over.
CANCEL_SECONDS = 1.0
STOP_SECONDS = 1.0
# Threads for blocking calls of all bodies together; those for Django's ORM, whose async methods ask for one thread.
CALL_THREADS, ORM_THREADS = 16, 4


@dataclass(eq=False)
class _Job:
    attempt: Attempt
    done: Done
    task: asyncio.Task[Result] | None = None
    timer: asyncio.TimerHandle | None = None
    # Why the body is to end before it returns.
    over: TimeoutError | RunCancelledError | None = None


class LoopExecutor:
    """Runs ``async def`` bodies side by side in the thread ``wfe-loop``. Thread-safe.

    Each ``submit`` is answered by one call of its ``done``, from the loop's thread: it must not block. No answer comes
    after ``abandon`` or ``stop``, and none for a simulated ``Crash``.
    """

    def __init__(self, ports: Ports, recorder: Recorder) -> None:
        self._ports, self._recorder = ports, recorder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="wfe-loop", daemon=True)
        self._calls = BlockingCalls(threads=CALL_THREADS, orm=ORM_THREADS)
        self._lock = threading.Lock()
        self._jobs: dict[Held, _Job] = {}
        self._zombies: set[_Job] = set()
        self._turned = time.monotonic()
        self._heart: asyncio.TimerHandle | None = None
        self._stopping = False

    def start(self) -> None:
        self._calls.serve(self._loop)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what still runs and end the thread, waiting a moment for it; no ``done`` is called any more."""
        with self._lock:
            self._jobs.clear()
            self._stopping = True
        if self._thread.ident is None:
            self._loop.close()
            return
        self._call(self._loop.stop)
        self._thread.join(3 * STOP_SECONDS)
        self._calls.close()

    def submit(self, held: Held, done: Done) -> None:
        """Begin the attempt; ``done(held, result)`` is called when it has ended."""
        job = _Job(Attempt(self._ports, held, self._recorder), done)
        with self._lock:
            if self._stopping:
                raise RuntimeError("this executor has been stopped")
            if not self._jobs:
                self._turned = time.monotonic()
            self._jobs[held] = job
        self._call(self._begin, job)

    def cancel(self, held: Held) -> None:
        """Cancel the attempt's task at its next await: ``held.lost`` was set."""
        job = self._jobs.get(held)
        if job is not None:
            error = RunCancelledError(f"stage {held.stage.stage_id!r}: the run was cancelled or the attempt was lost")
            self._call(self._end_early, job, error)

    def abandon(self, held: Held) -> bool:
        """Let go of an attempt whose end somebody else will tell; False: its ``done`` was called or is being called."""
        with self._lock:
            job = self._jobs.pop(held, None)
        if job is None:
            return False
        self._call(self._drop, job)
        return True

    def stalled_for(self) -> float:
        """Return for how many seconds a body has kept the loop from turning; up to 0.1 is normal, 0: nothing to do."""
        return max(0.0, time.monotonic() - self._turned) if self._jobs else 0.0

    def blocker(self) -> Held | None:
        """Return the attempt in whose body the loop is just now, if it is in one and not in a task of its own."""
        current = asyncio.current_task(self._loop)
        with self._lock:
            jobs = [*self._jobs.values(), *self._zombies]
        return next((job.attempt.held for job in jobs if job.task is current and current is not None), None)

    @property
    def zombies(self) -> int:
        """Bodies that go on although their end has been told."""
        return len(self._zombies)

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        # The loop may have been closed by ``stop`` meanwhile: then there is nothing left to do.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _main(self) -> None:
        while not self._stopping:
            try:
                self._loop.run_forever()
            # A body's own task that calls sys.exit raises here too; all others go on.
            except BaseException:
                logger.exception("a task of a stage's body ended the event loop, which goes on")
        try:
            self._loop.run_until_complete(_cancel_all(self._loop))
        finally:
            self._loop.close()

    def _begin(self, job: _Job) -> None:
        held = job.attempt.held
        if self._jobs.get(held) is not job:
            return
        name = f"{held.stage.stage_id} {str(held.stage.run_id)[-8:]}"
        job.task = self._loop.create_task(self._run(job), name=name)
        job.task.add_done_callback(lambda task: self._ended(job, task))
        if self._heart is None:
            self._beat()

    def _beat(self) -> None:
        self._turned = time.monotonic()
        self._heart = self._loop.call_later(BEAT_SECONDS, self._beat) if self._jobs else None

    async def _run(self, job: _Job) -> Result:
        attempt = job.attempt
        self._calls.adopt_task()
        self._set_deadline(job)
        context = await asyncio.to_thread(attempt.open) if attempt.reads_blobs else attempt.open()
        data = attempt.check(await attempt.stage.body(context))
        small = attempt.complete_inline(data)
        return small if small is not None else await asyncio.to_thread(attempt.complete, data)

    def _set_deadline(self, job: _Job) -> None:
        held, timeout = job.attempt.held, job.attempt.stage.timeout
        if held.deadline is None and timeout is not None:
            held.deadline = time.monotonic() + timeout.total_seconds()
        if held.deadline is not None:
            job.timer = self._loop.call_later(held.deadline - time.monotonic(), self._time_out, job)

    def _time_out(self, job: _Job) -> None:
        if self._jobs.get(job.attempt.held) is job:
            # From now on nothing of the body is kept, and the host need not say that it is over its time.
            job.attempt.held.timed_out = True
            self._end_early(job, TimeoutError())

    def _end_early(self, job: _Job, why: TimeoutError | RunCancelledError) -> None:
        if job.over is not None or job.task is None or self._jobs.get(job.attempt.held) is not job:
            return
        job.over = why
        job.task.cancel()
        if job.timer is not None:
            job.timer.cancel()
        job.timer = self._loop.call_later(CANCEL_SECONDS, self._give_up, job)

    def _give_up(self, job: _Job) -> None:
        """Tell the end of a body that swallowed its cancellation without waiting for it."""
        self._answer(job, self._told(job))
        self._drop(job)

    def _drop(self, job: _Job) -> None:
        if job.task is not None and not job.task.done():
            self._zombies.add(job)
            job.task.cancel()

    def _ended(self, job: _Job, task: asyncio.Task[Result]) -> None:
        if job.timer is not None:
            job.timer.cancel()
        self._zombies.discard(job)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(error, points.Crash):
            self.abandon(job.attempt.held)
            raise error
        if job.over is not None:
            self._answer(job, self._told(job))
        else:
            self._answer(job, task.result() if error is None else job.attempt.ended_by(error))

    def _told(self, job: _Job) -> Result:
        """Return the outcome of a body that was to end before it returned, whatever it does."""
        attempt = job.attempt
        if isinstance(job.over, RunCancelledError):
            return attempt.failed(job.over)
        return timed_out(attempt.stage, attempt.held)

    def _answer(self, job: _Job, result: Result) -> None:
        with self._lock:
            if self._jobs.get(job.attempt.held) is not job:
                return
            del self._jobs[job.attempt.held]
        try:
            job.done(job.attempt.held, result)
        except Exception:
            logger.exception("the end of a stage was not taken stage=%s", job.attempt.held.stage.stage_id)


async def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    await loop.shutdown_asyncgens()
