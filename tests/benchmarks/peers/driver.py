"""The measuring that all adapters share: closed loop, many in flight, backlog, counting, idling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.peers.spec import Spec
from tests.benchmarks.peers.usage import Usage

WARM_UP = 20
GRACE_SECONDS = 10


class NotDone(Exception):
    """The system did not do what it was asked for, so there is nothing to report."""


class System(ABC):
    """One system under test, with as many worker processes as the spec says."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.workers: list[subprocess.Popen[bytes]] = []
        self.looks = 0

    @abstractmethod
    def prepare(self) -> None:
        """Create the tables; the harness copies the database for each case."""

    @abstractmethod
    def start(self) -> None:
        """Start the workers and return when they take work."""

    @abstractmethod
    def create(self) -> Any:
        """Start one run and return what ``wait`` needs."""

    @abstractmethod
    def wait(self, handle: Any) -> None:
        """Return when the run has ended."""

    @abstractmethod
    def finished(self) -> int:
        """Return how many runs have ended since the case began; it is asked often."""

    def begun(self) -> bool:
        """Return whether any work was done since the case began: the workers are up."""
        return self.finished() > 0

    @abstractmethod
    def verify(self, runs: int) -> None:
        """Raise ``NotDone`` unless that many runs, with all their steps, were really done."""

    def create_many(self, runs: int) -> None:
        for _ in range(runs):
            self.create()

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers]

    def spawn(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        # What workers say goes to stderr: stdout is where the harness reads.
        self.workers.append(subprocess.Popen(command, stdout=sys.stderr, env={**os.environ, **(environment or {})}))

    def stop(self) -> None:
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()

    def extra(self, mode: str) -> None:
        """Do a mode that only this system has, ``tell`` its figures."""
        raise NotDone(f"{type(self).__name__} has no mode {mode!r}")


def main(make: Callable[[Spec], System]) -> None:
    """Do what the spec in ``argv`` says; exit 1 after telling what went wrong."""
    spec = Spec(**json.loads(sys.argv[1]))
    system = make(spec)
    try:
        perform(system, spec)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {error}")
        traceback.print_exc()
        raise SystemExit(1) from error
    finally:
        system.stop()


def perform(system: System, spec: Spec) -> None:
    if "prepare" in spec.modes:
        return system.prepare()
    done = 0
    if "backlog" in spec.modes:
        done += backlog(system, spec)
    elif set(spec.modes) & {"alone", "flood", "count"}:
        system.start()
        done += warm_up(system, spec)
    for mode in spec.modes:
        if mode in MODES:
            done += MODES[mode](system, spec)
        elif mode != "backlog":
            system.extra(mode)
    if done:
        system.verify(done)
        tell(verified=done)


def tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def mark(name: str) -> None:
    """Let the harness read its counters now."""
    tell(mark=name)
    sys.stdin.readline()


def warm_up(system: System, spec: Spec) -> int:
    """Connections, imports, plans: what only the first runs pay."""
    base = system.finished()
    system.wait(system.create())
    system.create_many(WARM_UP - 1)
    until_finished(system, base + WARM_UP)
    return WARM_UP


def alone(system: System, spec: Spec) -> int:
    """One run at a time: the next is created when the last has ended."""
    taken: list[float] = []
    end = time.monotonic() + spec.alone_seconds
    while len(taken) < spec.alone and time.monotonic() < end:
        begin = time.perf_counter()
        system.wait(system.create())
        taken.append((time.perf_counter() - begin) * 1000)
    tell(mode="alone", ms=taken)
    return len(taken)


def flood(system: System, spec: Spec) -> int:
    """Many in flight: this process creates runs while the workers run; from the first create to the last end."""
    base, usage, begin = system.finished(), Usage(system.pids()), time.perf_counter()
    system.create_many(spec.runs)
    created = time.perf_counter() - begin
    until_finished(system, base + spec.runs)
    seconds = time.perf_counter() - begin
    tell(mode="flood", runs=spec.runs, seconds=seconds, creating=created, **usage.taken())
    return spec.runs


def backlog(system: System, spec: Spec) -> int:
    """Runs created before the workers start: from the first work seen to the last end, so without start-up."""
    system.create_many(spec.runs)
    system.start()
    poll(system.begun, seconds=spec.limit_seconds, every=0.005)
    begin, before = time.perf_counter(), system.finished()
    until_finished(system, spec.runs)
    tell(mode="backlog", runs=spec.runs - before, seconds=time.perf_counter() - begin)
    return spec.runs


def count(system: System, spec: Spec) -> int:
    """The same as ``flood`` through the counting relays; nothing is timed. ``looks`` are our own statements."""
    base = system.finished()
    mark("begin")
    system.create_many(spec.runs)
    system.looks = 1
    until_finished(system, base + spec.runs)
    mark("end")
    tell(mode="count", runs=spec.runs, looks=system.looks)
    return spec.runs


MODES: dict[str, Callable[[System, Spec], int]] = {"alone": alone, "flood": flood, "count": count}


def until_finished(system: System, runs: int) -> int:
    """Return how many have ended, at least ``runs``. Raises ``NotDone`` after ``limit_seconds``."""
    end = time.monotonic() + system.spec.limit_seconds
    while (finished := system.finished()) < runs:
        if time.monotonic() > end:
            raise NotDone(f"only {finished} of {runs} runs ended within {system.spec.limit_seconds:g} s")
        if dead := [worker for worker in system.workers if worker.poll() is not None]:
            raise NotDone(f"a worker ended with status {dead[0].returncode}")
        system.looks += 1
        # Rarely while much is left, so that asking costs little; often near the end, so that it is seen at once.
        time.sleep(0.005 if finished > 0.9 * runs else 0.05)
    return finished


def poll(is_done: Callable[[], bool], *, seconds: float, every: float = 0.001) -> None:
    """Ask every millisecond. Raises ``NotDone`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > end:
            raise NotDone(f"a run alone did not end within {seconds:g} s")
        time.sleep(every)
