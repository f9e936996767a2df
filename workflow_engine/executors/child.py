"""The program of a child process: ``python -m workflow_engine.executors.child FD PARENT``.

A ``ProcessExecutor`` starts it. It loads the project, then runs one body after the other as it is told over the socket
``FD``, and ends with its parent.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

from .channel import Channel

IDLE_SECONDS = 300.0
PARENT_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
Requests = queue.SimpleQueue["dict[str, Any] | None"]


def main() -> None:
    code = 1
    try:
        _work(int(sys.argv[1]), int(sys.argv[2]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        # Threads that bodies have left behind must not keep the process alive.
        os._exit(code)


def _work(descriptor: int, parent: int) -> None:
    _end_with(parent)
    for signum in (signal.SIGINT, signal.SIGTERM):
        # The parent decides. A handler, because programs that bodies start would inherit that a signal is ignored.
        signal.signal(signum, lambda *_: None)
    # Programs that bodies start do not hold the channel open.
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    requests: Requests = queue.SimpleQueue()
    busy = threading.Event()
    busy.set()
    threading.Thread(target=_listen, args=(channel, parent, requests, busy), name="wfe-parent", daemon=True).start()
    greeting = requests.get()
    if greeting is not None:
        _load(greeting, channel)
        _serve(channel, requests, busy)


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        # Also while a body holds Python's lock. Other systems rely on the thread below.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _listen(channel: Channel, parent: int, requests: Requests, busy: threading.Event) -> None:
    try:
        while os.getppid() == parent:
            message = channel.receive(PARENT_SECONDS)
            if message is not None:
                busy.set()
                requests.put(message)
    except EOFError:
        pass
    if busy.is_set():
        os._exit(1)
    requests.put(None)


def _load(greeting: dict[str, Any], channel: Channel) -> None:
    """Make this process what its parent is: the same path, the same project."""
    sys.path[:] = greeting["path"]
    if greeting["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = greeting["pythonpath"]
    import django

    try:
        django.setup()
    except Exception as error:
        channel.send({"broken": f"{type(error).__name__}: {error}"[:1000]})
        raise


def _serve(channel: Channel, requests: Requests, busy: threading.Event) -> None:
    from .serving import Server

    server = Server()
    busy.clear()
    channel.send({"ready": True})
    with suppress(queue.Empty, OSError):
        while (request := requests.get(timeout=IDLE_SECONDS)) is not None:
            channel.send({"begun": True})
            answer = server.run(request)
            # Before the answer: the next request may follow it at once.
            busy.clear()
            channel.send(answer)
    server.stop()


if __name__ == "__main__":
    main()
