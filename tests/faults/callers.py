"""Callers that die: a copy of the test's own process makes a call, and is killed at a crash point in it."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from django.db import connections

from workflow_engine.kernel import points

RETURNED, RAISED = 3, 4


def killed_caller(point: str, act: Callable[[], object]) -> None:
    """Call ``act`` in a fork of this process, which dies by SIGKILL the first time it passes ``point``.

    What the fork had open in the database is rolled back by the database, since nobody is left to do it.
    """
    with warnings.catch_warnings():
        # Threads of this process are not in the copy, and it needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _die_in(point, act)
    _, status = os.waitpid(child, 0)
    how = os.waitstatus_to_exitcode(status)
    assert how == -signal.SIGKILL, {RETURNED: f"{point} was not passed", RAISED: "see the traceback"}.get(how, how)


def _die_in(point: str, act: Callable[[], object]) -> None:
    code = RAISED
    try:
        # Kept, so that nothing says goodbye on a connection that is the parent's too.
        kept: list[Any] = []
        for connection in connections.all(initialized_only=True):
            kept.append(connection.connection)
            connection.connection = None
        points.install(points.hook_from(f"{point}:1:kill"))
        act()
        code = RETURNED
    except BaseException:
        traceback.print_exc()
    finally:
        # No clean-up: all that would be cleaned up is the parent's.
        os._exit(code)
