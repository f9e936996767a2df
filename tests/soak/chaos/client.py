"""A client in a process of its own: creates runs with keys, asks again whenever it was not answered, cancels and reruns
some. It may be killed at any time; the next one reads its book and goes on. SIGTERM: finish what is begun, and exit.
"""

from __future__ import annotations

import heapq
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import django

PAUSE_SECONDS, AGAIN_SECONDS = 0.2, 2.0
# Of the runs: cancelled, rerun; and asked for once more although the answer had come.
CANCELLED, RERUN, TWICE = 0.07, 0.10, 0.03


def main() -> int:
    django.setup()
    seed, pace = int(sys.argv[1]), float(sys.argv[2])
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    Client(seed, pace, stopping).run()
    return 0


class Client:
    def __init__(self, seed: int, per_second: float, stopping: threading.Event) -> None:
        from django.conf import settings

        from tests.soak.chaos.book import NAME, Book

        self._seed, self._pause, self._stopping = seed, 1 / per_second, stopping
        self._book = Book.open(Path(settings.SCRATCH) / NAME)
        # (when, number, what)
        self._later: list[tuple[float, int, str]] = []

    def run(self) -> None:
        self._book.write("begin", self._book.last, pid=os.getpid())
        for entry in list(self._book.entries.values()):
            if not entry.run_id:
                self._create(entry.number)
            else:
                self._plan(entry.number)
        due = time.monotonic()
        while not self._stopping.is_set() or self._later:
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, number, what = heapq.heappop(self._later)
                {"cancel": self._cancel, "rerun": self._rerun, "again": self._create}[what](number)
            if self._stopping.is_set():
                time.sleep(PAUSE_SECONDS)
            elif now >= due:
                self._create(self._book.last + 1)
                # What was missed while a server was away is made up for, but not all at once.
                due = max(due + self._pause, now - 1)
            else:
                following = min([due, *(when for when, _, _ in self._later[:1])])
                self._stopping.wait(max(0.0, min(following - now, 0.5)))

    def _plan(self, number: int) -> None:
        """Decide by its number alone what else is wanted of a run."""
        entry, (what, delay) = self._book.entries[number], self._fate(number)
        open_yet = {"cancel": entry.cancelled is None, "rerun": not entry.rerun, "again": entry.tries == 1}
        if what and open_yet[what]:
            heapq.heappush(self._later, (time.monotonic() + delay, number, what))

    def _fate(self, number: int) -> tuple[str, float]:
        """Return what is to be asked for besides, or nothing, and in how many seconds."""
        from tests.soak.chaos.workflows import FIRST
        from tests.soak.chaos.workflows import RERUN as STAGES

        workflow, random = self._book.entries[number].workflow, Random(f"fate {self._seed} {number}")
        if number in FIRST:
            return FIRST[number][1], 0
        fate = random.random()
        if fate < CANCELLED and workflow not in ("crowd", "poison"):
            return "cancel", random.uniform(0, 3)
        if fate > 1 - RERUN and workflow in STAGES:
            return "rerun", random.uniform(0.3, 3)
        if 0.5 < fate < 0.5 + TWICE:
            return "again", random.uniform(1, 5)
        return "", 0

    def _create(self, number: int) -> None:
        from tests.soak.chaos.workflows import workflow_of
        from workflow_engine import create_run

        workflow = workflow_of(self._seed, number)

        def ask() -> None:
            self._book.write("try", number, workflow=workflow)
            began, entry = time.monotonic(), self._book.entries[number]
            run = create_run(workflow, entry.text, idempotency_key=entry.key)
            took = time.monotonic() - began
            self._book.write("made", number, run_id=str(run.pk), created=run.was_created, seconds=took)

        self._until_answered(number, ask)
        self._plan(number)

    def _cancel(self, number: int) -> None:
        """Cancel a run; every other one only when it has ended, so that this must fail."""
        from workflow_engine import cancel_run
        from workflow_engine.models import WorkflowRun
        from workflow_engine.statuses import FINISHED_RUN

        def ask() -> None:
            rows = WorkflowRun.objects.filter(pk=self._book.entries[number].run_id, status__in=FINISHED_RUN)
            if number % 2 and not rows.exists():
                heapq.heappush(self._later, (time.monotonic() + AGAIN_SECONDS, number, "cancel"))
                return
            self._book.write("cancel", number)
            cancelled = cancel_run(self._book.entries[number].run_id, reason="on purpose")
            self._book.write("cancelled", number, cancelled=cancelled)

        self._until_answered(number, ask)

    def _rerun(self, number: int) -> None:
        from tests.soak.chaos.workflows import RERUN as STAGES
        from workflow_engine import rerun_from
        from workflow_engine.errors import InvalidTransition

        entry = self._book.entries[number]
        stage = Random(f"rerun {self._seed} {number}").choice(STAGES[entry.workflow])

        def ask() -> None:
            self._book.write("rerun", number)
            try:
                rerun_from(entry.run_id, stage, idempotency_key=f"rerun-{number}")
            except InvalidTransition:
                # It has not ended yet.
                self._book.write("refused", number)
                heapq.heappush(self._later, (time.monotonic() + AGAIN_SECONDS, number, "rerun"))
            else:
                self._book.write("rerun-done", number)

        self._until_answered(number, ask)

    def _until_answered(self, number: int, ask: Callable[[], None]) -> None:
        """Ask again, with the same key, until there is an answer; servers may be away."""
        from django.db import Error, connections

        from workflow_engine.errors import InvalidTransition, WorkflowEngineError

        while True:
            try:
                return ask()
            except InvalidTransition:
                raise
            except (WorkflowEngineError, Error) as error:
                self._book.write("error", number, error=f"{type(error).__name__}: {error}"[:200])
                connections.close_all()
                time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    # Whoever starts it may be gone.
    code = main()
    sys.stdout.flush()
    os._exit(code)
