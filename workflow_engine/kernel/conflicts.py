"""Which database errors mean "repeat the transaction", and which "the database is away"."""

from __future__ import annotations

from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.transaction import TransactionManagementError

from workflow_engine.errors import DatabaseConflict, DatabaseUnavailable

# serialization failure, deadlock, lock not available
_CONFLICT_STATES = {"40001", "40P01", "55P03"}
# MySQL: deadlock, lock wait timeout, and MariaDB's "record has changed since last read"
_CONFLICT_NUMBERS = {1213, 1205, 1020}
# MySQL: cannot connect, gone away, lost during query, server shutdown, connection was killed
_LOST_NUMBERS = {2002, 2003, 2006, 2013, 2055, 1053, 1927}
# PostgreSQL: connection exceptions, no resources (disk, memory, connections), errors of the machine
_LOST_CLASSES = {"08", "53", "58"}
# shutdowns, and a server that became read-only because another one has taken over
_LOST_STATES = {"57P01", "57P02", "57P03", "57P05", "25006", "25P03", "25P04"}
_LOST_WORDS = (
    "connection",
    "closed",
    "terminat",
    "shutting down",
    "starting up",
    "could not connect",
    "timeout expired",
    "unable to open",
)


def is_conflict(error: BaseException) -> bool:
    """The transaction lost a race with another one; the same transaction may succeed now."""
    if isinstance(error, DatabaseConflict):
        return True
    # Django names the connection's last error as the cause of a broken transaction: it may be an old one.
    if not isinstance(error, Error) or isinstance(error, TransactionManagementError):
        return False
    state, number, text = _identify(error)
    return (
        state in _CONFLICT_STATES or number in _CONFLICT_NUMBERS or "database is locked" in text or "is locked" in text
    )


def is_lock_timeout(error: BaseException) -> bool:
    state, number, _ = _identify(error)
    return state == "55P03" or number == 1205


def is_lost(error: BaseException) -> bool:
    """The connection is gone or cannot be made: nobody knows whether a COMMIT that was under way succeeded."""
    if not isinstance(error, Error) or isinstance(error, TransactionManagementError) or is_conflict(error):
        return False
    state, number, text = _identify(error)
    # By the state first: psycopg calls some of them internal errors.
    if state is not None:
        return state[:2] in _LOST_CLASSES or state in _LOST_STATES
    if not isinstance(error, InterfaceError | OperationalError):
        return False
    if number is not None:
        return number in _LOST_NUMBERS
    # What psycopg raises without a state comes from the connection, never from a statement.
    unanswered = type(error.__cause__).__module__.startswith("psycopg")
    return unanswered or isinstance(error, InterfaceError) or any(word in text for word in _LOST_WORDS)


def _identify(error: BaseException) -> tuple[str | None, int | None, str]:
    """Return (SQLSTATE, error number, text) of the driver's error behind Django's."""
    cause: Any = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    number = first if isinstance(first, int) else None
    return getattr(cause, "sqlstate", None), number, str(cause).lower()


def is_away(error: BaseException) -> bool:
    """The database cannot be reached: nothing else can be done with it either just now."""
    return isinstance(error, DatabaseUnavailable) or is_lost(error)
