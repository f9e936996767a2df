"""How large and how busy the processes are, and how old the oldest transaction is: asked again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg

EVERY_SECONDS = 1.0
# A process grows while it starts, and whoever lives for a moment only says nothing of growth.
GROWN_UP_SECONDS, LONG_LIVED_SECONDS = 20.0, 300.0
OLDEST = (
    "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
SILENT = (
    "SELECT id::text, pid FROM workflow_engine_workerheartbeat "
    "WHERE stopped_at IS NULL AND lease_until < clock_timestamp() "
    "AND lease_until > clock_timestamp() - interval '30 seconds'"
)


@dataclass
class Growth:
    """The line of least squares through samples of one process, without keeping them."""

    began: float
    count: int = 0
    last: float = 0.0
    peak: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0

    def add(self, now: float, size: float) -> None:
        x = now - self.began
        self.count += 1
        self.last, self.peak = now, max(self.peak, size)
        self._x, self._y, self._xx, self._xy = self._x + x, self._y + size, self._xx + x * x, self._xy + x * size

    @property
    def seconds(self) -> float:
        return self.last - self.began

    @property
    def per_hour(self) -> float:
        spread = self.count * self._xx - self._x**2
        return 3600 * (self.count * self._xy - self._x * self._y) / spread if spread else 0.0


@dataclass
class Samples:
    """``silent`` names workers whose lease ran out although their process lived, and ``frozen`` did not explain it."""

    # Name -> the most MB that one of its processes held; name -> MB per hour of the one that lived longest.
    peaks: dict[str, float] = field(default_factory=dict)
    slopes: dict[str, tuple[float, float]] = field(default_factory=dict)
    oldest_transaction: float = 0.0
    silent: set[str] = field(default_factory=set)
    cpu_seconds: float = 0.0
    _busy: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @property
    def machine_busy(self) -> float:
        """Which part of the machine's time was spent by anybody, others included."""
        return self._busy[0] / self._busy[1] if self._busy[1] else 0.0


class Sampler:
    def __init__(self, pids: Callable[[], dict[str, int]], database: str) -> None:
        self._pids, self._database = pids, database
        self.found = Samples()
        self._lives: dict[tuple[str, int], tuple[psutil.Process, Growth]] = {}
        self._spent: dict[int, float] = {}
        self._connection: psycopg.Connection | None = None
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        psutil.cpu_percent()
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join(10)
            if self._connection is not None:
                self._connection.close()

    def _run(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self._look_at_processes()
            self._ask_database()

    def _look_at_processes(self) -> None:
        found, living = self.found, self._pids()
        busy = psutil.cpu_percent()
        found._busy[0] += busy / 100
        found._busy[1] += 1
        for name, pid in living.items():
            key = (name, pid)
            try:
                if key not in self._lives:
                    process = psutil.Process(pid)
                    self._lives[key] = (process, Growth(process.create_time() + GROWN_UP_SECONDS))
                process, growth = self._lives[key]
                size = process.memory_info().rss / 1e6
                times = process.cpu_times()
            except psutil.Error:
                continue
            spent = times.user + times.system
            found.cpu_seconds += max(0.0, spent - self._spent.get(pid, 0.0))
            self._spent[pid] = spent
            found.peaks[name] = max(found.peaks.get(name, 0.0), size)
            if time.time() > growth.began:
                growth.add(time.time(), size)
        for key in [key for key in self._lives if living.get(key[0]) != key[1]]:
            self._settle(key)

    def settle(self) -> Samples:
        """Return all that was found, of those who still live too."""
        for key in list(self._lives):
            self._settle(key)
        return self.found

    def _settle(self, key: tuple[str, int]) -> None:
        """Take note of how one has grown that is gone."""
        _, growth = self._lives.pop(key)
        self._spent.pop(key[1], None)
        longest, _ = self.found.slopes.get(key[0], (0.0, 0.0))
        if growth.seconds > max(longest, LONG_LIVED_SECONDS):
            self.found.slopes[key[0]] = (growth.seconds, growth.per_hour)

    def _ask_database(self) -> None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._database, autocommit=True, connect_timeout=3)
            oldest = self._connection.execute(OLDEST).fetchone()
            silent = self._connection.execute(SILENT).fetchall()
        except psycopg.Error:
            # It is away, or has ended this connection.
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return
        self.found.oldest_transaction = max(self.found.oldest_transaction, float(oldest[0]) if oldest else 0.0)
        self.found.silent |= {worker for worker, pid in silent if _runs(pid)}


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
