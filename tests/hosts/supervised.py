"""A real ``wfe_worker`` with what it and its children say, as JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.processes import ROOT, environment
from tests.waiting import until
from workflow_engine.models import WorkerHeartbeat


class Workers:
    """What a ``wfe_worker --json`` has said so far; other lines, as of logs, are in ``noise``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.noise: list[str] = []
        self._said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def said(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """Return the events of a kind with these facts, in order."""
        found = [event for event in list(self._said) if event.get("event") == kind]
        return [event for event in found if all(event.get(key) == value for key, value in facts.items())]

    def until_said(self, kind: str, count: int = 1, **facts: Any) -> list[dict[str, Any]]:
        until(lambda: len(self.said(kind, **facts)) >= count, f"{count} times {kind} {facts}: {self.noise}")
        return self.said(kind, **facts)

    def until_working(self, count: int) -> None:
        """Wait until so many workers have told the database that they live."""
        until(lambda: WorkerHeartbeat.objects.filter(stopped_at=None).count() == count, f"{count} live: {self.noise}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, once all that it and its children had to say has been read."""
        self.process.wait(timeout=60)
        self._reader.join(60)
        return self.process.returncode

    def close(self) -> None:
        # Without their supervisor the children drain.
        self.process.kill()
        self.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def pids(self) -> list[int]:
        """Return the processes that children were given, in the order of their starts."""
        return [
            event["pid"] for event in list(self._said) if event.get("event") in ("child_started", "child_restarted")
        ]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._said.append(json.loads(line))
            except ValueError:
                self.noise.append(line)


@contextmanager
def workers(*options: str, settings: str = "tests.hosts.settings") -> Iterator[Workers]:
    """Start ``wfe_worker --json`` on this test's database. However the block ends, the process is gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "wfe_worker", "--json", "--name", "box", "--threads", "2", *options],
        env=environment(settings_module=settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Workers(process)
    try:
        yield running
    finally:
        running.close()
