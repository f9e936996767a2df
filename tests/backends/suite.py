"""One pytest process on one backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.backends.search import Server

GRACE_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """What became of one run; the counts are zero if pytest died before it could tell."""

    status: int
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    words: str = "pytest did not finish"


def run_suite(backend: str, server: Server, *, redis_url: str, arguments: Sequence[str], scratch: Path) -> Outcome:
    """Run the whole suite, its output going straight to the terminal."""
    report = scratch / f"{backend}.json"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WFE_TEST_BACKEND": backend,
        "WFE_TEST_DATABASE_URL": server.url,
        "WFE_TEST_REDIS_URL": redis_url,
        "WFE_TEST_REPORT": str(report),
        "WFE_TEST_SOURCE": server.source,
    }
    started = time.monotonic()
    status = wait(
        subprocess.Popen([sys.executable, "-m", "pytest", "-p", "tests.backends.report", *arguments], env=environment)
    )
    seconds = time.monotonic() - started
    told = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(status=status, seconds=seconds, **told)


def wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status; an interrupted pytest gets the time to clean its databases up."""
    try:
        return process.wait()
    except BaseException as interruption:
        # Ctrl-C reaches every process of the terminal; other signals reach only us.
        if not isinstance(interruption, KeyboardInterrupt):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
