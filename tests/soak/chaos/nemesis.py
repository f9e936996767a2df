"""The nemesis: carries out a plan of faults, and writes down each one with its time and whom it hit."""

from __future__ import annotations

import heapq
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings

from tests.soak.chaos import server_faults
from tests.soak.chaos.fleet import Fleet, Unit
from tests.soak.chaos.lanes import FROZEN_LEASES, Lane
from tests.soak.chaos.plan import Act, plan
from tests.soak.chaos.servers import Servers
from tests.soak.journal import is_in_body

T = TypeVar("T")
NAME = "nemesis.jsonl"
# Whoever is killed or frozen while it is idle shows little.
LOOK_FOR_BUSY_SECONDS = 0.5


@dataclass(frozen=True)
class Deed:
    """An act as it was done: from ``began`` to ``ended``, by the clock. ``pids`` are the processes that it hit."""

    act: Act
    began: float
    ended: float
    target: str
    pids: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def was_done(self) -> bool:
        return "skipped" not in self.facts

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.act.number, "kind": self.act.kind, "planned_at": round(self.act.at, 2),
            "began": self.began, "ended": self.ended, "target": self.target, "pids": self.pids, **self.facts,
        }  # fmt: skip


class Nemesis:
    """``deeds`` holds those of this round."""

    def __init__(self, lane: Lane, kinds: tuple[str, ...], seed: int, fleet: Fleet, servers: Servers) -> None:
        self._lane, self._fleet, self._servers = lane, fleet, servers
        self._plan, self._path = plan(seed, lane.every, kinds), Path(settings.SCRATCH) / NAME
        self.deeds: list[Deed] = []
        self.counts: Counter[str] = Counter()
        # What is to be undone or goes on later: (when, number, what).
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._done = threading.Event()
        self.failure: Exception | None = None
        # The plan's time at which this round began.
        self._offset = 0.0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Do what is planned inside the block; at its end whatever was frozen goes on."""
        self._done.clear()
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join(60)
            while self._later:
                heapq.heappop(self._later)[2]()

    def forget(self) -> None:
        self.deeds.clear()

    def _work(self) -> None:
        try:
            began = time.monotonic() - self._offset
            for act in self._plan:
                if not self._wait(began, act.at):
                    self._offset = act.at
                    return
                self._do(act)
        except Exception as error:
            self.failure = error

    def _wait(self, began: float, at: float) -> bool:
        """Wait for the time of an act, doing meanwhile what is due; False: the round is over."""
        while True:
            now = time.monotonic()
            due = began + at
            if self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
                continue
            if now >= due:
                return not self._done.is_set()
            if self._done.wait(min(due, self._later[0][0] if self._later else due) - now):
                return False

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, len(self.deeds), what))

    def _do(self, act: Act) -> None:
        group = act.kind.partition("-")[0]
        began = time.time()
        if group in ("kill", "stop", "deploy"):
            target, pids, facts = self._hit(act)
        else:
            target, pids = group, ()
            facts = server_faults.do(act, self._servers, self.later)
        deed = Deed(act, began, time.time(), target, tuple(pids), facts)
        self.deeds.append(deed)
        self.counts[act.kind] += deed.was_done
        with self._path.open("a") as file:
            file.write(json.dumps(deed.as_json()) + "\n")

    def _hit(self, act: Act) -> tuple[str, list[int], dict[str, Any]]:
        """Do something to processes; return to whom."""
        how, _, whom = act.kind.partition("-")
        if how != "deploy" and whom == "worker":
            name, pid = _picked(self._busy(), act.pick) or ("", 0)
            return (name, [pid], self._signal(how, pid)) if pid else _nobody()
        kinds = {"worker": ("worker", "supervisor"), "group": ("supervisor",)}.get(whom, (whom,))
        unit = _picked([unit for unit in self._fleet.units if unit.kind in kinds and unit.pid], act.pick)
        if unit is None or unit.pid is None or unit.member is None:
            return _nobody()
        if how == "deploy":
            pid = unit.pid
            unit.tell()
            return unit.name, [pid], {}
        if whom == "group":
            return unit.name, self._kill_group(unit), {}
        return unit.name, [unit.pid], self._signal(how, unit.pid)

    def _signal(self, how: str, pid: int) -> dict[str, Any]:
        if how == "kill":
            _kill(pid)
            return {}
        seconds = FROZEN_LEASES * self._lane.lease
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self.later(seconds, lambda: _go_on(pid))
        return {"seconds": seconds}

    def _kill_group(self, unit: Unit) -> list[int]:
        """Kill a supervisor and its children; it starts none again meanwhile."""
        assert unit.pid is not None
        assert unit.member is not None
        supervisor = unit.pid
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGSTOP)
        pids = [*unit.member.children(), supervisor]
        for pid in pids:
            _kill(pid)
        return pids

    def _busy(self) -> list[tuple[str, int]]:
        """Return the workers that are in the middle of a body, after a moment all of them if there is none."""
        end = time.monotonic() + LOOK_FOR_BUSY_SECONDS
        while time.monotonic() < end:
            if found := [(name, pid) for name, pid in self._fleet.workers() if is_in_body(pid)]:
                return found
            time.sleep(LOOK_FOR_BUSY_SECONDS / 20)
        return self._fleet.workers()


def _picked(them: list[T], pick: float) -> T | None:
    return them[int(pick * len(them))] if them else None


def _nobody() -> tuple[str, list[int], dict[str, Any]]:
    return "", [], {"skipped": "nobody is there"}


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
