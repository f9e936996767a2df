"""CPU and memory of the processes that take part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil  # type: ignore[import-untyped, unused-ignore]

MEGABYTE = 1e6


def family(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """Yield the processes and all their descendants; those that have ended are left out."""
    for pid in pids:
        try:
            process = psutil.Process(pid)
            yield from (process, *process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    return sum(own_cpu(process) for process in processes)


def own_cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(times.user + times.system)


def memories(pids: Iterable[int]) -> dict[int, float]:
    """Return the resident memory of each process in MB, by its number."""
    found = {}
    for process in family(pids):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found[process.pid] = process.memory_info().rss / MEGABYTE
    return found


def largest_memory(pids: Iterable[int]) -> float:
    """Return the resident memory of the largest worker process in MB."""
    sizes = [0.0]
    for process in family(pids):
        try:
            sizes.append(process.memory_info().rss / MEGABYTE)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return max(sizes)


def server_cpu(name: str) -> float:
    """Return the CPU seconds that the local servers called ``name`` have used, ended children included; 0 if none."""
    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != name:
            continue
        total += own_cpu(process)
        try:
            times = process.cpu_times()
            # What ended processes used is found in the books of those that waited for them: on Linux.
            total += float(getattr(times, "children_user", 0) + getattr(times, "children_system", 0))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


class Usage:
    """The CPU seconds from now on, of the workers, of this process and of the servers if they are local."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._begin = self._now()

    def _now(self) -> dict[str, float]:
        return {
            "cpu_workers": cpu_seconds(family(self._pids)),
            "cpu_client": own_cpu(psutil.Process()),
            "cpu_postgres": server_cpu("postgres"),
            "cpu_redis": server_cpu("redis-server") + server_cpu("valkey-server"),
        }

    def taken(self) -> dict[str, float]:
        now = self._now()
        used = {name: now[name] - self._begin[name] for name in now}
        return {**used, "rss_worker": largest_memory(self._pids)}
