"""A process that has everything imported and does nothing, and is forked for each process that a test starts.

``python -m tests.faults.zygote`` reads a JSON object per line, and answers each by one: ``argv``, ``env`` and
``output`` (a path) start a child, whose ``pid`` is told; ``poll`` (a pid) asks for its ``status`` as ``waitpid`` gives
it, null while it lives. A child whose status was told is gone; until then its pid is nobody else's. At the end of the
input all children are killed.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import traceback
from importlib import import_module
from typing import Any

import django
from django.core.management import ManagementUtility
from django.db import connections

# What a worker imports only when it is at work.
WARM = (
    "django.contrib.auth.hashers",
    "django.core.files.storage.filesystem",
    "workflow_engine.bootstrap",
    "workflow_engine.management.commands.wfe_prune",
    "workflow_engine.management.commands.wfe_worker",
    "workflow_engine.transports.database",
)


def serve() -> None:
    warm_up()
    children: set[int] = set()
    say({"ready": os.getpid()})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "poll" in request:
            say({"status": status_of(request["poll"], children)})
            continue
        pid = fork(request)
        children.add(pid)
        say({"pid": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def warm_up() -> None:
    django.setup()
    for name in WARM:
        import_module(name)
    # Makes the objects; nothing is connected.
    connections.all()
    # What is there by now never becomes garbage, and stays shared with the children.
    gc.collect()
    gc.freeze()


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def status_of(pid: int, children: set[int]) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    children.remove(pid)
    return os.waitstatus_to_exitcode(status)


def fork(request: dict[str, Any]) -> int:
    # A thread or a connection would be shared with a child, or be half there.
    assert threading.active_count() == 1, threading.enumerate()
    assert not any(connection.connection for connection in connections.all())
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        become(**request)
    return pid


def become(argv: list[str], env: dict[str, str], output: str) -> None:
    """Be the process that was asked for, to its end."""
    code = 1
    try:
        os.setsid()
        redirect(output)
        os.environ.clear()
        os.environ.update(env)
        # As at its import, which was long ago. Not before Django is set up.
        points = import_module("workflow_engine.kernel.points")
        if asked := env.get("WFE_CRASH_AT"):
            points.install(points.hook_from(asked))
        elif notes := env.get("WFE_TEST_PASSES"):
            points.install(lambda point: note(notes, point))
        sys.argv = argv
        ManagementUtility(argv).execute()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        end(code)


def note(file: str, point: str) -> None:
    """Add a line that is whole, whoever writes at the same time."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{point}\n".encode())
    os.close(descriptor)


def redirect(output: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(file)


def end(code: int) -> None:
    """End as an interpreter does, but for tidying memory up."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
