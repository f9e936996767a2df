"""Worker processes of the soak: one supervisor, or one single worker; what they say is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings

ROOT = Path(__file__).parents[2]


class Workers:
    """``wfe_worker --json``. Log lines go to the soak's ``worker.log``."""

    def __init__(self, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        with (Path(settings.SCRATCH) / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "django", "wfe_worker", "--json", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def children(self) -> list[int]:
        """Return the process ids of the children that live, as far as the supervisor has said."""
        living: dict[str, int] = {}
        for event in list(self.events):
            if event.get("event") in ("child_started", "child_restarted"):
                living[event["name"]] = event["pid"]
            elif event.get("event") == "child_exited":
                living.pop(event["name"], None)
        return list(living.values())

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event.get("event") == kind]

    def stop(self, timeout: float = 60) -> int:
        """Ask it to drain; return its exit code, or that of SIGKILL if it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(10)
        return self.process.returncode

    def kill(self) -> None:
        """End it and its children, frozen ones too."""
        for pid in [self.process.pid, *self.children()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                self.events.append(json.loads(line))


@contextmanager
def supervised(processes: int, threads: int) -> Iterator[Workers]:
    """Keep ``processes`` workers running until the end of the block."""
    workers = Workers("--processes", str(processes), "--threads", str(threads), "--name", "soak")
    try:
        yield workers
    finally:
        if workers.process.poll() is None:
            workers.kill()
