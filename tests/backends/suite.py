"""One pytest process for each backend, several of them at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.backends.search import Server

GRACE_SECONDS = 30
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """What became of one run; the counts are zero if pytest died before it could tell."""

    status: int
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    words: str = "pytest did not finish"


@dataclass
class Suite:
    """One pytest process and where its output goes: a file, or straight to the terminal."""

    backend: str
    process: subprocess.Popen[bytes]
    report: Path
    started: float
    output: Path | None = None
    ended: float | None = None

    def poll(self) -> bool:
        """Return whether it has ended."""
        if self.ended is None and self.process.poll() is not None:
            self.ended = time.monotonic()
        return self.ended is not None

    def outcome(self) -> Outcome:
        told = json.loads(self.report.read_text()) if self.report.exists() else {}
        ended = self.ended or time.monotonic()
        return Outcome(status=self.process.wait(), seconds=ended - self.started, **told)

    def stop(self, *, interrupted: bool) -> None:
        """End it, and give it the time to clean its databases up."""
        # Ctrl-C reaches every process of the terminal; other signals reach only us.
        if not interrupted:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()


def run_suites(
    servers: Mapping[str, Server],
    *,
    redis_url: str,
    arguments: Sequence[str],
    scratch: Path,
    at_once: int,
    announce: Callable[[str], None],
) -> dict[str, Outcome]:
    """Run the suite on each backend, ``at_once`` at a time; show their output one after the other, as it comes."""
    waiting = list(servers)
    running: list[Suite] = []
    outcomes: dict[str, Outcome] = {}
    alone = at_once == 1 or len(waiting) == 1

    def start_next() -> None:
        name = waiting.pop(0)
        output = None if alone else scratch / f"{name}.log"
        running.append(start(name, servers[name], redis_url, arguments, scratch, output))

    def fill() -> None:
        while waiting and sum(not suite.poll() for suite in running) < at_once:
            start_next()

    try:
        while waiting or running:
            fill()
            shown = running[0]
            announce(shown.backend)
            follow(shown, meanwhile=fill)
            outcomes[shown.backend] = shown.outcome()
            running.remove(shown)
    except BaseException as interruption:
        for suite in running:
            suite.stop(interrupted=isinstance(interruption, KeyboardInterrupt))
        raise
    return outcomes


def start(
    backend: str, server: Server, redis_url: str, arguments: Sequence[str], scratch: Path, output: Path | None
) -> Suite:
    """Start the whole suite on one backend."""
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
    command = [sys.executable, "-m", "pytest", "-p", "tests.backends.report"]
    if output is None:
        process = subprocess.Popen([*command, *arguments], env=environment)
    else:
        color = ["--color=yes"] if sys.stdout.isatty() else []
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, *color, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
    return Suite(backend, process, report, time.monotonic(), output)


def follow(suite: Suite, *, meanwhile: Callable[[], None]) -> None:
    """Show what a suite writes until it has ended."""
    with ExitStack() as stack:
        file = None if suite.output is None else stack.enter_context(suite.output.open(errors="replace"))
        while True:
            ended = suite.poll()
            if file is not None and (text := file.read()):
                print(text, end="", flush=True)
            if ended:
                return
            meanwhile()
            time.sleep(POLL_SECONDS)
