"""``ctx.on_complete``: functions of users that are called inside the transaction that completes their stage."""

from __future__ import annotations

import threading

from django.db import connections
from django.db.transaction import TransactionManagementError

from workflow_engine.definitions.results import Completed, Result

from .conflicts import is_conflict, is_lost
from .points import Crash
from .ports import Ports


class EffectFailed(Exception):
    """A function given to ``on_complete`` raised ``error``: the transaction rolls back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(f"on_complete: {type(error).__name__}")


def has_effects(result: Result) -> bool:
    """Whether finishing it calls functions of users: slow, perhaps, so only the thread of its body does it."""
    return isinstance(result, Completed) and bool(result.notes.on_complete)


def call_effects(ports: Ports, result: Result) -> None:
    """Call the functions in order, in the transaction that is open; the stage's row is ours by now.

    Raises:
        EffectFailed: one of them raised, or left the transaction such that it cannot commit. Conflicts and lost
            connections pass as they are: then the transaction, and every function with it, is tried again.
    """
    if not isinstance(result, Completed):
        return
    connection = connections[ports.using]
    depth = len(connection.savepoint_ids)
    for function in result.notes.on_complete:
        try:
            function()
            if connection.needs_rollback or len(connection.savepoint_ids) != depth:
                raise TransactionManagementError(f"{function!r} left the finishing transaction broken or a block open")
        except Crash:
            raise
        # It may call sys.exit or be cancelled: the attempt has failed, whatever it was.
        except BaseException as error:
            if is_conflict(error) or is_lost(error):
                raise
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            raise EffectFailed(error) from error
