"""SIGINT and SIGTERM while a command works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The command was asked to stop; ``signum`` says how."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def on_interrupt(act: Callable[[], None], *, leave: bool) -> Iterator[None]:
    """Call ``act`` at each signal inside the block; ``leave``: raise ``Interrupted`` in the main thread too.

    ``act`` runs in a thread of its own: a handler interrupts the main thread anywhere, also while it holds the very
    lock that ``act`` needs. Outside of the main thread, where no handler can be set, the block just runs.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        threading.Thread(target=act, name="wfe-interrupt", daemon=True).start()
        if leave:
            raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
