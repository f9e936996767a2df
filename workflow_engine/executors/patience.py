"""What a context asks of the database for the engine's own sake: an outage is waited for, not held against the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import Error, connections

from workflow_engine.errors import DatabaseUnavailable
from workflow_engine.kernel.conflicts import is_lost
from workflow_engine.kernel.ports import Ports

from .held import Held

T = TypeVar("T")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 2.0


def patiently(ports: Ports, held: Held, ask: Callable[[], T]) -> T:
    """Return what ``ask`` gives. While the database is away it is asked again, for as long as the lease lasts.

    Nothing is repeated in a transaction of the body's own, or where no lease bounds the wait.

    Raises:
        RunCancelledError: the lease is over, so others have the stage now.
    """
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return ask()
        except (Error, DatabaseUnavailable) as error:
            connection = connections[ports.using]
            away = isinstance(error, DatabaseUnavailable) or is_lost(error)
            if not away or held.lease is None or connection.in_atomic_block:
                raise
            connection.close()
        held.check()
        ports.clock.pause(wait)
        held.check()
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
