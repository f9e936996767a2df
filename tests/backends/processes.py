"""Server processes of ours: their directory, their account, their end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from tests.backends.search import NotHere

START_SECONDS = 30


class Identity(TypedDict, total=False):
    """Whom ``subprocess`` runs a command as; nobody else if it is empty."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> pwd.struct_passwd | None:
    """Return the account a server runs as when we are root (PostgreSQL refuses root), or None to stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotHere("root needs an unprivileged account (postgres or nobody) to start a server, and there is none")


@contextmanager
def scratch_directory(account: pwd.struct_passwd | None = None) -> Iterator[Path]:
    """Make a directory of the account's own, short enough for the path of a Unix socket; remove it at the end."""
    place = tempfile.gettempdir()
    if account or len(place) > 60:
        place = "/tmp"
    directory = Path(tempfile.mkdtemp(prefix="wfe-", dir=place))
    try:
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(command: Sequence[str | Path], account: pwd.struct_passwd | None = None) -> str:
    """Return what a short command prints. Raises ``NotHere`` with its complaint if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", **identity(account))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        raise NotHere(f"{command[0]} failed: {last_line(done.stderr or done.stdout)}")
    return done.stdout.strip()


@contextmanager
def server_process(
    command: Sequence[str | Path], *, log: Path, answers: Callable[[], bool], account: pwd.struct_passwd | None = None
) -> Iterator[None]:
    """Keep a server running until the end of the block, once it answers.

    It gets a session of its own, so that Ctrl-C reaches the tests first and the server only by us.
    """
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True,
            **identity(account),
        )  # fmt: skip
    try:
        wait_until(answers, process, log)
        yield
    finally:
        stop(process)


def wait_until(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotHere(f"the server did not start: {last_line(log.read_text(errors='replace'))}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    # For PostgreSQL this is the "fast" shutdown: it does not wait for clients.
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def identity(account: pwd.struct_passwd | None) -> Identity:
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
