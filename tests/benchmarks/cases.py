"""One case: an adapter in a process group of its own, its JSON lines, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from tests.benchmarks.environment import ROOT
from tests.benchmarks.peers.spec import Spec

Told = list[dict[str, Any]]


class CaseFailed(Exception):
    """The adapter did not do its work; the message is its last word."""


def run_case(
    python: str, module: str, spec: Spec, *, on_mark: Callable[[str], None] = lambda name: None, seconds: float = 300
) -> Told:
    """Return what the adapter told, one dict per mode. Raises ``CaseFailed``."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [python, "-m", module, spec.text()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip
        overdue = threading.Timer(seconds, end_group, [process])
        overdue.start()
        try:
            told = listen(process, on_mark)
            status = process.wait()
        finally:
            overdue.cancel()
            end_group(process)
        if status:
            errors.seek(0)
            raise CaseFailed(f"{module}: {last_word(told, errors)} (exit status {status})")
        return told


def listen(process: subprocess.Popen[str], on_mark: Callable[[str], None]) -> Told:
    assert process.stdout and process.stdin
    told: Told = []
    for line in process.stdout:
        said = json.loads(line)
        if "mark" in said:
            on_mark(said["mark"])
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            told.append(said)
    return told


def last_word(told: Told, errors: IO[str]) -> str:
    if told and "error" in told[-1]:
        return str(told[-1]["error"])
    lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def end_group(process: subprocess.Popen[str]) -> None:
    """Leave no worker behind, whatever became of the adapter: all are of the session that we started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
