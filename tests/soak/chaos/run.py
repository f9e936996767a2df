"""A lane from its beginning to its table: rounds of faults, each with a quiet end in which everything must end."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import F, Sum

from tests.soak import watching
from tests.soak.chaos.book import NAME, Book
from tests.soak.chaos.checks import Checks
from tests.soak.chaos.facts import gather
from tests.soak.chaos.figures import Figures
from tests.soak.chaos.fleet import Fleet
from tests.soak.chaos.guards import needed, seen
from tests.soak.chaos.hooks import Hook, hooks
from tests.soak.chaos.lanes import Lane
from tests.soak.chaos.log import Log
from tests.soak.chaos.nemesis import Nemesis
from tests.soak.chaos.sampling import Sampler
from tests.soak.chaos.servers import Servers
from tests.soak.chaos.workflows import EFFECTS
from tests.soak.report import write
from workflow_engine.models import EventCursor, OutboxEvent, WorkflowRun

START_SECONDS, CLIENT_SECONDS, SAY_SECONDS = 120.0, 60.0, 10.0
WORKING = ("supervisor", "worker", "orchestrator")


class Chaos:
    def __init__(self, lane: Lane, acts: tuple[str, ...], seed: int, found: Servers) -> None:
        self.lane, self.seed, self.servers = lane, seed, found
        self.figures = Figures(lane, seed, acts)
        self.fleet = Fleet(lane, seed)
        self.nemesis = Nemesis(lane, acts, seed, self.fleet, found)
        self.log = Log(Path(settings.SCRATCH) / "worker.log")
        self.sampler = Sampler(self.fleet.pids, found.postgres.url)
        self._began = time.monotonic()

    def run(self) -> Figures:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {EFFECTS} (run_id text, stage text, generation integer)")
        (Path(settings.SCRATCH) / "heard").mkdir()
        self.fleet.of("client")[0].wanted = False
        with hooks(self.seed, self.lane) as both, self.sampler.running(), self.fleet.running():
            started = watching.wait(self.fleet.started, START_SECONDS)
            self._say(f"everybody has started after {started or START_SECONDS:.1f} s")
            for number in range(1, self.lane.rounds + 1):
                self._round(number, both)
            self._end()
        return self.figures

    def _round(self, number: int, both: list[Hook]) -> None:
        since = self._now()
        self.fleet.resume(("client",))
        end = time.monotonic() + self.lane.seconds
        with self.nemesis.at_work():
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, SAY_SECONDS))
                done, living = self.nemesis.counts.total(), len(self.fleet.pids())
                self._say(f"round {number}: {done} faults, {living} processes live, {watching.unfinished()} runs open")
        self._say("no more faults")
        self.figures.seconds += self.lane.seconds
        if self.nemesis.failure is not None:
            self.figures.problem("harness", [f"the nemesis failed: {self.nemesis.failure!r}"])
        self._finish_client()
        self._become_quiet()
        self._check(since, both)

    def _finish_client(self) -> None:
        """Let the client get all its answers: whoever was killed is started again for it."""
        unit = self.fleet.of("client")[0]
        path = Path(settings.SCRATCH) / NAME
        ready = watching.wait(lambda: unit.pid is not None and Book.open(path).pid == unit.pid, CLIENT_SECONDS, 0.2)
        if ready is None:
            self.figures.problem("liveness", ["the client did not start again"])
        # It waits for the ends of those that it is to rerun.
        unit.wanted = False
        unit.tell()
        self._wait_to_end(lambda: watching.unfinished() if unit.pid is not None else 0)
        self.fleet.stop(("client",), CLIENT_SECONDS)

    def _become_quiet(self) -> None:
        began = time.monotonic()
        ended = self._wait_to_end(watching.unfinished)
        told = self._wait_to_end(lambda: watching.asked(_untold))
        if not ended:
            left, limit = watching.unfinished(), self.lane.liveness
            text = f"{left} runs are open, and none has ended for {limit:g} s: {watching.states()}"
            self.figures.problem("liveness", [text])
        if not told:
            self.figures.problem(
                "liveness", [f"{_untold()} deliveries are open, and none was made for {self.lane.liveness:g} s"]
            )
        self.figures.quiet_after.append(time.monotonic() - began)
        self._say(f"quiet after {self.figures.quiet_after[-1]:.1f} s")

    def _wait_to_end(self, left: Callable[[], int]) -> bool:
        """Wait until nothing is left; False: for so long as the lane allows it has not become less."""
        least, since = left(), time.monotonic()
        while (now := left()) > 0:
            if now < least:
                least, since = now, time.monotonic()
            if time.monotonic() - since > self.lane.liveness:
                return False
            time.sleep(0.2)
        return True

    def _check(self, since: datetime, both: list[Hook]) -> None:
        figures, deeds = self.figures, self.nemesis.deeds
        book = Book.open(Path(settings.SCRATCH) / NAME)
        self.log.read()
        facts = gather(since, deeds, self.sampler.found.silent, self.lane.taken_back_within)
        checks = Checks(since, book, facts, both)
        for name, texts in checks.found().items():
            figures.problem(name, texts)
        runs = WorkflowRun.objects.filter(created_at__gte=since)
        figures.statuses.update(Counter(runs.values_list("status", flat=True)))
        figures.runs += len(book.entries)
        figures.counts.update(seen(book, facts, deeds, both, self.log))
        figures.executions += facts.executions
        figures.re_executed += facts.re_executed
        figures.late_bodies += facts.late_bodies
        figures.unlucky += checks.unlucky
        for who, lags in checks.lags.items():
            figures.lags[who] += lags
        figures.lost_by.update(facts.lost_by)
        figures.hits.update(facts.hits)
        figures.taken_back += facts.taken_back
        figures.begun_again += facts.begun_again
        figures.after_restart += facts.after_restart
        faults = sum(deed.was_done and deed.target in ("pg", "redis") for deed in deeds)
        figures.problem("log", self.log.wrong(faults))
        self._forget(both)
        self._say(f"checked: {dict(+figures.problems) or 'all is well'}")

    def _forget(self, both: list[Hook]) -> None:
        """Begin anew: what was checked is done with, and the next round brings as much again."""
        if self.lane.rounds == 1:
            return
        for name in ("journal", "heard"):
            for path in (Path(settings.SCRATCH) / name).iterdir():
                path.unlink()
        for hook in both:
            hook.forget()
        last = Book.open(Path(settings.SCRATCH) / NAME).last
        (Path(settings.SCRATCH) / NAME).unlink()
        Book(Path(settings.SCRATCH) / NAME).write("begin", last, pid=0)
        self.nemesis.forget()
        self.log.forget()
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {EFFECTS}")

    def _end(self) -> None:
        grace = float(self.lane.settings["GRACE_SECONDS"])
        self.fleet.stop(WORKING, grace + 30)
        figures = self.figures
        figures.problem("processes", self.fleet.wrong)
        figures.problem("processes", [f"process {pid} is left" for pid in self.fleet.left()])
        figures.drains, figures.ends = self.fleet.drains, self.fleet.ends
        figures.complaints = self.log.complaints
        figures.samples = self.sampler.settle()
        spent = time.monotonic() - self._began
        figures.cpu = 100 * figures.samples.cpu_seconds / spent / (os.cpu_count() or 1)
        figures.wanted = needed(figures.acts, figures.seconds)
        figures.missing = [name for name in figures.wanted if not figures.counts[name]]

    def _now(self) -> datetime:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            return cursor.fetchone()[0]  # type: ignore[no-any-return]

    def _say(self, text: str) -> None:
        write(f"{time.monotonic() - self._began:7.1f} s  {text}")


def _untold() -> int:
    """Count what somebody has still to hear of, those that do not want to hear of all of it included."""
    told = EventCursor.objects.aggregate(left=Sum(F("target") - F("last_sequence")))["left"] or 0
    return EventCursor.objects.count() + told + OutboxEvent.objects.filter(pending=True).count()


def save(figures: Figures, path: str) -> None:
    if path:
        Path(path).write_text(json.dumps(figures.as_json(), indent=2) + "\n")
