"""The processes of a lane: workers, orchestrators and a client. Whoever ends is started again, as a system would."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings

from tests.soak.chaos.lanes import Lane
from tests.soak.workers import ROOT, Workers

AGAIN_SECONDS, LOOK_SECONDS = 0.5, 0.1
# Nobody puts work there: who serves this queue alone only looks after what others do.
NO_QUEUE = "nothing-is-due-here"


class Client:
    """The client's process."""

    def __init__(self, seed: int, per_second: float) -> None:
        with (Path(settings.SCRATCH) / "client.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.chaos.client", str(seed), str(per_second)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def children(self) -> list[int]:
        return []


class Unit:
    """One place in the fleet. ``kind``: "worker", "supervisor", "orchestrator" or "client"."""

    def __init__(self, kind: str, name: str, arguments: tuple[str, ...]) -> None:
        self.kind, self.name, self._arguments = kind, name, arguments
        self.member: Workers | Client | None = None
        self.start_at = 0.0
        # False: it is not started again.
        self.wanted = True
        # Asked to end, and when.
        self.told_at: float | None = None

    def start(self) -> None:
        if self.kind == "client":
            seed, pace = self._arguments
            self.member = Client(int(seed), float(pace))
        else:
            self.member = Workers(*self._arguments, "--name", self.name)
        self.told_at = None

    @property
    def pid(self) -> int | None:
        return self.member.process.pid if self.member is not None and self.member.process.poll() is None else None

    def tell(self) -> None:
        """Ask it to end in good order."""
        if self.member is not None and self.pid is not None:
            self.told_at = time.monotonic()
            self.member.process.send_signal(signal.SIGTERM)


class Fleet:
    """``ends`` counts how processes ended, ``wrong`` lists those that ended badly, and ``drains`` holds the seconds
    from each SIGTERM to the end."""

    def __init__(self, lane: Lane, seed: int) -> None:
        quiet = ("--no-orchestrator",)
        threads = ("--threads", str(lane.threads))
        self.units = [
            Unit("supervisor", "group", ("--processes", str(lane.supervised), *threads)),
            *(Unit("worker", f"single-{number}", (*threads, *quiet)) for number in range(1, lane.single + 1)),
            *(
                Unit("orchestrator", f"orchestrator-{number}", ("--threads", "1", "--queues", NO_QUEUE))
                for number in range(1, lane.orchestrators + 1)
            ),
            Unit("client", "client", (str(seed), str(lane.runs_per_second))),
        ]
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.drains: list[float] = []
        # Children of supervisors that are gone; they drain.
        self.orphans: set[int] = set()
        self._lock = threading.Lock()
        self._seen: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def of(self, kind: str) -> list[Unit]:
        return [unit for unit in self.units if unit.kind == kind]

    def workers(self) -> list[tuple[str, int]]:
        """Return names and process ids of those who run stages, in a fixed order."""
        found = [(unit.name, unit.pid) for unit in self.of("worker")]
        for unit in self.of("supervisor"):
            if unit.member is not None:
                found += [(f"{unit.name} child", pid) for pid in unit.member.children()]
        return [(name, pid) for name, pid in found if pid is not None]

    def pids(self) -> dict[str, int]:
        """Return everybody who lives, by a name that lasts over restarts."""
        named = {unit.name: unit.pid for unit in self.units}
        for unit in self.of("supervisor"):
            for number, pid in enumerate(unit.member.children() if unit.member is not None else (), 1):
                named[f"{unit.name}-{number}"] = pid
        return {name: pid for name, pid in named.items() if pid is not None}

    def started(self) -> bool:
        """Whether everybody has said that it has begun."""
        wanted = {"worker": 1, "orchestrator": 1}
        for unit in self.units:
            if isinstance(unit.member, Workers):
                expected = wanted.get(unit.kind) or int(unit._arguments[1])
                if len(unit.member.said("started")) < expected:
                    return False
        return True

    def stop(self, kinds: tuple[str, ...], seconds: float) -> None:
        """Ask those to end in good order; whoever does not in time is in ``wrong``."""
        units = [unit for unit in self.units if unit.kind in kinds]
        for unit in units:
            unit.wanted = False
            unit.tell()
        end = time.monotonic() + seconds
        while any(unit.pid for unit in units) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        for unit in units:
            if unit.pid is not None:
                self.wrong.append(f"{unit.name} (process {unit.pid}) did not end in {seconds:g} s")
        self.look()

    def left(self) -> list[int]:
        """Return those that live although everybody was asked to end."""
        return [pid for pid in self.orphans if _is_worker(pid)] + list(self.pids().values())

    def resume(self, kinds: tuple[str, ...]) -> None:
        for unit in self.units:
            unit.wanted = unit.wanted or unit.kind in kinds

    def look(self) -> None:
        """Take note of who has ended; start again whoever has, a moment later."""
        with self._lock:
            for unit in self.units:
                if unit.member is not None and unit.pid is None:
                    self._ended(unit, unit.member)
                if unit.member is None and unit.wanted and time.monotonic() >= unit.start_at:
                    unit.start()
                if isinstance(unit.member, Workers):
                    self._children_ended(unit.member)

    def _ended(self, unit: Unit, member: Workers | Client) -> None:
        process, unit.member = member.process, None
        unit.start_at = time.monotonic() + AGAIN_SECONDS
        code = process.returncode
        if unit.told_at is not None and code == 0 and isinstance(member, Workers):
            self.drains.append(time.monotonic() - unit.told_at)
        if unit.told_at is None or code != -signal.SIGTERM:
            # Else it was told before it was ready to listen, and had nothing yet.
            self._judge(unit.name, process.pid, code)
        if isinstance(member, Workers):
            self._children_ended(member)
            self._seen.pop(id(member), None)
            self.orphans |= set(member.children())

    def _children_ended(self, member: Workers) -> None:
        exits = member.said("child_exited")
        for event in exits[self._seen.get(id(member), 0) :]:
            code = -signal.Signals[event["signal"]] if event["signal"] else event["code"]
            self._judge(event["name"], event["pid"], code)
        self._seen[id(member)] = len(exits)

    def _judge(self, name: str, pid: int, code: int) -> None:
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        self.ends[how] += 1
        # A body that kills its worker does it by SIGKILL too; who that was, the attempts say.
        if code not in (0, -signal.SIGKILL):
            self.wrong.append(f"{name} (process {pid}) ended by {how}")

    def _watch(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            self.look()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.look()
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join(10)
            for unit in self.units:
                if isinstance(unit.member, Workers):
                    unit.member.kill()
                elif unit.member is not None:
                    unit.member.process.kill()
                    unit.member.process.wait(10)


def _is_worker(pid: int) -> bool:
    try:
        return "wfe_worker" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
