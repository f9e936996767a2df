"""Processes on the test's own database, to be killed. They are forked from one that has everything imported."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from tests.waiting import until
from workflow_engine.models import WorkerHeartbeat

ROOT = Path(__file__).parents[2]
SETTINGS = "tests.faults.settings"
# Read by a process at work. Whatever else is in the environment may have made its settings.
READ_LATE = {"WFE_CRASH_AT", "WFE_TEST_PASSES", "WFE_TEST_HEARD", "PYTEST_CURRENT_TEST"}


def environment(crash_at: str = "", settings_module: str = SETTINGS) -> dict[str, str]:
    """Return the environment of a process that works on this test's database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module,
        "PYTHONPATH": str(ROOT),
        "WFE_TEST_BACKEND": settings.BACKEND,
        "WFE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
        "WFE_CRASH_AT": crash_at,
    }


class Zygote:
    """A warm process without threads and connections; each ``start`` is a fork of it."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        atexit.register(self.stop)
        assert "ready" in self._read()

    def ask(self, **request: Any) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._read()

    def stop(self) -> None:
        self._process.communicate(timeout=30)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process that is forked has ended: {self._process.wait(30)}"
        return json.loads(line)


class ForkedProcess:
    """A process that a test has started; what it prints is kept in a file."""

    def __init__(self, zygote: Zygote, argv: list[str], env: dict[str, str]) -> None:
        descriptor, self._output = tempfile.mkstemp(dir=settings.SCRATCH, suffix=".log")
        os.close(descriptor)
        self._zygote = zygote
        self.returncode: int | None = None
        self.pid: int = zygote.ask(argv=argv, env=env, output=self._output)["pid"]

    def poll(self) -> int | None:
        """Return how it has ended, as ``subprocess`` would, or None."""
        if self.returncode is None:
            self.returncode = self._zygote.ask(poll=self.pid)["status"]
        return self.returncode

    def wait(self, seconds: float = 60) -> int:
        until(lambda: self.poll() is not None, f"the process {self.pid} ends", seconds)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, signum: int) -> None:
        # Until its end was seen, its pid is its own.
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Let it and whatever it has started be gone."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def output(self) -> str:
        return Path(self._output).read_text(errors="replace")


@cache
def _zygote(shaping: frozenset[tuple[str, str]]) -> Zygote:
    return Zygote(dict(shaping))


def start(*argv: str, crash_at: str = "", settings_module: str = SETTINGS) -> ForkedProcess:
    """Start ``django-admin`` with these arguments; ``crash_at`` is ``point:n[:action]``."""
    env = environment(crash_at, settings_module)
    zygote = _zygote(frozenset((name, text) for name, text in env.items() if name not in READ_LATE))
    return ForkedProcess(zygote, ["django-admin", *argv], env)


@contextmanager
def worker_process(crash_at: str = "", *options: str, settings_module: str = SETTINGS) -> Iterator[ForkedProcess]:
    """Start ``wfe_worker``; ``crash_at`` is ``point:n[:action]``. However the block ends, the process is gone."""
    # Checking the settings again and again would take longer than most workers live.
    arguments = ("--skip-checks", "--grace", "5", *options)
    process = start("wfe_worker", *arguments, crash_at=crash_at, settings_module=settings_module)
    try:
        yield process
    except BaseException as error:
        error.add_note(f"process {process.pid} printed:\n{process.output()}")
        raise
    finally:
        process.kill()


def stop(process: ForkedProcess) -> str:
    """Ask the worker to drain; return what it printed. Raises AssertionError unless it ends well."""
    # Before its first beat it has not said yet what a signal means to it.
    mine = WorkerHeartbeat.objects.filter(pid=process.pid)
    until(lambda: process.poll() is not None or mine.exists(), "the worker has started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, process.output()
    return process.output()
