"""Worker processes on the test's own database, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from tests.waiting import until
from workflow_engine.models import WorkerHeartbeat

ROOT = Path(__file__).parents[2]


def environment(crash_at: str = "", settings_module: str = "tests.faults.settings") -> dict[str, str]:
    """Return the environment of a process that works on this test's database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module,
        "PYTHONPATH": str(ROOT),
        "WFE_TEST_BACKEND": settings.BACKEND,
        "WFE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
        "WFE_CRASH_AT": crash_at,
    }


@contextmanager
def worker_process(
    crash_at: str = "", *options: str, settings_module: str = "tests.faults.settings"
) -> Iterator[subprocess.Popen[str]]:
    """Start ``wfe_worker``; ``crash_at`` is ``point:n[:action]``. However the block ends, the process is gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "wfe_worker", "--grace", "5", *options],
        env=environment(crash_at, settings_module),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)


def stop(process: subprocess.Popen[str]) -> str:
    """Ask the worker to drain; return what it printed. Raises AssertionError unless it ends well."""
    # Before its first beat it has not said yet what a signal means to it.
    mine = WorkerHeartbeat.objects.filter(pid=process.pid)
    until(lambda: process.poll() is not None or mine.exists(), "the worker has started")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    return output
